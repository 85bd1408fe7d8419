"""One trainer is kept warm: a cycle uses it, another one follows, and none is left when the daemon ends."""

from __future__ import annotations

import psutil

from daemon.training.warm_trainer import LOG_NAME
from tests.helpers import drop


def test_a_cycle_uses_the_warm_trainer_and_another_one_follows(rig):
    one = rig(keep_warm=True)
    one.until_published(0)
    one.until(lambda: len(one.launcher.started) == 2)
    warm = one.launcher.started[1]
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    one.until(lambda: len(one.launcher.started) == 3)
    assert warm.poll() is not None or psutil.Process(warm.pid).ppid() == psutil.Process().pid
    assert one.ledger.last_publication().policy_version == 1
    pids = [child.pid for child in one.launcher.started]
    one.close()
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_cycle_does_not_fail_because_the_warm_trainer_has_died(rig):
    one = rig(keep_warm=True)
    one.until_published(0)
    one.until(lambda: len(one.launcher.started) == 2)
    psutil.Process(one.launcher.started[1].pid).kill()
    one.until(lambda: "the warm trainer ended" in one.log)
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until_published(1)
    assert len(one.launcher.started) == 3


def test_no_trainer_is_kept_warm_while_training_is_off(rig):
    one = rig(keep_warm=True, enable_auto_training=False)
    one.until_published(0)
    one.until(lambda: one.inbox.is_up_to_date)
    assert len(one.launcher.started) == 1


def test_a_warm_trainer_gets_a_preview_of_each_rollout_once_and_then_its_job(rig):
    one = rig(keep_warm=True, auto_train_after_n_rollouts=3)
    one.until_published(0)
    one.launcher.mode = "warm"
    one.until(lambda: len(one.launcher.started) == 2)
    log = one.layout.logs / LOG_NAME

    def jobs():
        return [line for line in log.read_text().splitlines() if line.startswith("job")]

    one.until(lambda: jobs() == ["job prefetch 0"])
    drop(one.layout.exports, 1)
    one.until(lambda: jobs() == ["job prefetch 0", "job prefetch 1"])
    drop(one.layout.exports, 2)
    one.until(lambda: jobs() == ["job prefetch 0", "job prefetch 1", "job prefetch 1"])
    drop(one.layout.exports, 3)
    one.until_published(1)
    assert len(jobs()) == 3
    assert "job train 3" in one.layout.cycle_log(1).read_text()
