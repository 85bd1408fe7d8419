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
