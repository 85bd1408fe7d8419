"""The warm trainer: a cycle uses it, another one is started, and none runs after the daemon has ended."""

from __future__ import annotations

import psutil

from daemon.training.warm.warm_trainer import LOG_NAME
from tests.helpers import write_rollout


def test_a_cycle_uses_the_warm_trainer_and_another_one_follows(make_harness):
    harness = make_harness(keep_warm=True)
    harness.until_published(0)
    harness.until(lambda: len(harness.launcher.started) == 2)
    warm = harness.launcher.started[1]
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    harness.until(lambda: len(harness.launcher.started) == 3)
    assert warm.poll() is not None or psutil.Process(warm.pid).ppid() == psutil.Process().pid
    assert harness.ledger.last_publication().policy_version == 1
    pids = [child.pid for child in harness.launcher.started]
    harness.close()
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_cycle_does_not_fail_because_the_warm_trainer_has_died(make_harness):
    harness = make_harness(keep_warm=True)
    harness.until_published(0)
    harness.until(lambda: len(harness.launcher.started) == 2)
    psutil.Process(harness.launcher.started[1].pid).kill()
    harness.until(lambda: "the warm trainer ended" in harness.log)
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    assert len(harness.launcher.started) == 3


def test_no_trainer_is_kept_warm_while_training_is_off(make_harness):
    harness = make_harness(keep_warm=True, enable_auto_training=False)
    harness.until_published(0)
    harness.until(lambda: harness.inbox.is_up_to_date)
    assert len(harness.launcher.started) == 1


def test_a_warm_trainer_gets_a_preview_of_each_rollout_once_and_then_its_job(make_harness):
    harness = make_harness(keep_warm=True, auto_train_after_n_rollouts=3)
    harness.until_published(0)
    harness.launcher.mode = "warm"
    harness.until(lambda: len(harness.launcher.started) == 2)
    log = harness.paths.logs / LOG_NAME

    def jobs(file=log):
        return [line for line in file.read_text().splitlines() if line.startswith("job")]

    harness.until(lambda: jobs() == ["job prefetch 0"])
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: jobs() == ["job prefetch 0", "job prefetch 1"])
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: jobs() == ["job prefetch 0", "job prefetch 1", "job prefetch 1"])
    write_rollout(harness.paths.exports, 3)
    harness.until_published(1)
    assert jobs(harness.paths.cycle_log(1)) == ["job train 3"]
