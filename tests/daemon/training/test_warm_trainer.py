"""One trainer is kept warm: the cycle takes it, another follows, and none is left when the daemon ends."""

from __future__ import annotations

import psutil

from tests.helpers import drop


def test_a_cycle_takes_the_spare_trainer_and_another_follows(rig):
    one = rig(keep_warm=True)
    one.until_published(0)
    one.until(lambda: len(one.launcher.started) == 2)
    spare = one.launcher.started[1]
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    one.until(lambda: len(one.launcher.started) == 3)
    assert spare.poll() is not None or psutil.Process(spare.pid).ppid() == psutil.Process().pid
    assert one.ledger.last_publication().policy_version == 1
    pids = [child.pid for child in one.launcher.started]
    one.close()
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_dead_spare_is_no_reason_for_a_cycle_to_fail(rig):
    one = rig(keep_warm=True)
    one.until_published(0)
    one.until(lambda: len(one.launcher.started) == 2)
    psutil.Process(one.launcher.started[1].pid).kill()
    one.until(lambda: "the spare trainer ended" in one.log)
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    assert len(one.launcher.started) == 3


def test_no_spare_waits_while_training_is_off(rig):
    one = rig(keep_warm=True, enable_auto_training=False)
    one.until_published(0)
    one.until(lambda: one.inbox.is_settled)
    assert len(one.launcher.started) == 1


def test_a_spare_that_is_ready_is_told_of_each_rollout_once_and_then_gets_its_job(rig):
    one = rig(keep_warm=True, auto_train_after_n_rollouts=3)
    one.until_published(0)
    one.launcher.mode = "warm"
    one.until(lambda: len(one.launcher.started) == 2)
    spare_log = one.layout.logs / "spare_trainer.log"

    def told():
        return [line for line in spare_log.read_text().splitlines() if line.startswith("told")]

    one.until(lambda: told() == ["told prefetch 0"])
    drop(one.layout.exports, 1)
    one.until(lambda: told() == ["told prefetch 0", "told prefetch 1"])
    drop(one.layout.exports, 2)
    one.until(lambda: told() == ["told prefetch 0", "told prefetch 1", "told prefetch 1"])
    drop(one.layout.exports, 3)
    one.until_published(1)
    assert len(told()) == 3
    assert "told train 3" in one.layout.cycle_log(1).read_text()
