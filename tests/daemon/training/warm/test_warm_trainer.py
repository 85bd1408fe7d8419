"""The warm trainer: a cycle uses it, another one is started, and none runs after the daemon has ended."""

from __future__ import annotations

import math

import psutil
import pytest

from daemon.process.child import Child
from daemon.process.machine import Memory
from daemon.training.warm import warm_trainer
from daemon.training.warm.previews import JobPreviews
from daemon.training.warm.warm_trainer import LOG_NAME
from schemas.settings.models import TrainerSettings
from tests.fakes.trainer import GO_ON_NAME
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import PATIENCE


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(warm_trainer, "usable_cores", lambda: 4.0)


def write_two(harness, first: int = 1) -> None:
    for index in (first, first + 1):
        write_rollout(harness.paths.exports, index)


def lingering(make_harness, **settings):
    """Return a harness whose first training is at its end but does not end, although the next cycle is full."""
    harness = make_harness(keep_warm=True, failures_before_parking=1, **settings)
    harness.until_published(0)
    harness.launcher.mode = "lingers"
    harness.until(lambda: len(harness.launcher.started) == 2)
    write_two(harness, 1)
    harness.until(lambda: harness.runner.progress.doing == "lingering")
    write_two(harness, 3)
    harness.until(lambda: harness.ledger.pending_count() == 2)
    return harness


def let_go_on(harness) -> None:
    (harness.paths.state / GO_ON_NAME).touch()


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


def test_a_cycle_that_is_full_at_the_publish_gets_a_trainer_that_was_started_before(make_harness, monkeypatch):
    """It leaves a core to the next one, because the engine is fast."""
    jobs, send = {}, Child.send

    def send_and_store(child, job):
        jobs[job.kind, job.policy_version] = job
        send(child, job)

    monkeypatch.setattr(Child, "send", send_and_store)
    harness = lingering(make_harness)
    harness.until(lambda: len(harness.launcher.started) == 3)
    next_trainer = harness.launcher.started[2]
    assert harness.ledger.last_publication().policy_version == 0
    let_go_on(harness)
    harness.until(lambda: harness.runner.cycle.id == 2 and harness.runner.trainer_pid is not None)
    assert harness.runner.trainer_pid == next_trainer.pid
    assert jobs["initial", 0].busy_cores == 0
    assert jobs["train", 2].busy_cores == 1
    harness.until_published(2)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.timeout(600)
def test_the_real_trainer_of_such_a_cycle_is_ready_at_the_publish(make_harness, monkeypatch):
    monkeypatch.setattr(warm_trainer, "lead_s", lambda start_s: math.inf)  # otherwise a busy machine starts it late
    harness = make_harness(keep_warm=True, epochs=200 * PATIENCE)  # long enough to start a trainer beside it
    started: list[Child] = []

    def start(spec, *, sends_events):
        started.append(Child(spec, sends_events=sends_events, wake=harness.mailbox.wake))
        return started[-1]

    def until(condition):
        harness.until(condition, timeout_s=150.0)

    def published_version():
        return harness.ledger.last_publication().policy_version

    monkeypatch.setattr(harness.launcher, "start", start)
    until(lambda: len(started) == 2)
    for index in range(4):
        write_rollout(harness.paths.exports, index, v1_bytes(seed=index, n=2048))
        if index == 1:
            until(lambda: harness.runner.busy)
    until(lambda: len(started) == 3)
    assert published_version() == 0
    until(lambda: harness.runner._warm_trainer._is_ready)
    assert published_version() == 0
    until(lambda: harness.runner.cycle.id == 2 and harness.runner.trainer_pid is not None)
    assert harness.runner.trainer_pid == started[2].pid


def test_a_preview_while_another_trains_names_neither_a_parent_nor_a_gpu(make_harness):
    """Afterwards, all rollouts are previewed again, with the parent."""
    harness = make_harness(auto_train_after_n_rollouts=3)
    harness.context.settings = harness.settings.model_copy(update={"trainer": TrainerSettings(device="cuda")})
    harness.until_published(0)
    write_two(harness)
    harness.until(lambda: harness.ledger.pending_count() == 2)
    previews = JobPreviews(harness.context)
    beside = previews.next_job(is_beside_another=True)
    assert (len(beside.rollouts), beside.parent, beside.settings.device) == (2, None, "cpu")
    assert previews.next_job(is_beside_another=True) is None
    alone = previews.next_job(is_beside_another=False)
    assert (len(alone.rollouts), alone.settings.device) == (2, "cuda")
    assert alone.parent is not None
    assert previews.next_job(is_beside_another=False) is None


def test_no_second_trainer_starts_if_memory_is_short_and_this_is_logged_once(make_harness, monkeypatch):
    monkeypatch.setattr(warm_trainer, "free_memory", lambda: Memory(700_000_000, 700_000_000))
    harness = lingering(make_harness)
    harness.until(lambda: "no trainer is started ahead of its cycle for now: 700 MB of memory are free" in harness.log)
    assert len(harness.launcher.started) == 2
    let_go_on(harness)
    harness.until(lambda: harness.runner.cycle.id == 2)
    assert harness.log.count("ahead of its cycle") == 1


@pytest.mark.parametrize("free", [Memory(10, 10**10), Memory(10**10, 10)], ids=["memory", "page file"])
def test_without_memory_each_cycle_starts_its_own_trainer(make_harness, monkeypatch, free):
    monkeypatch.setattr(warm_trainer, "free_memory", lambda: free)
    harness = make_harness(keep_warm=True)
    harness.until_published(0)
    write_two(harness)
    harness.until_published(1)
    harness.until(lambda: harness.log.count("ahead of its cycle") == 1)
    assert len(harness.launcher.started) == 2


def test_memory_that_cannot_be_measured_is_no_failure(make_harness, monkeypatch):
    def fail():
        raise OSError("no /proc")

    monkeypatch.setattr(warm_trainer, "free_memory", fail)
    harness = lingering(make_harness)
    let_go_on(harness)
    harness.until_published(1)
    assert "no /proc" not in harness.log


def test_a_warm_trainer_is_ended_when_its_project_is_parked(make_harness):
    harness = make_harness(keep_warm=True, failures_before_parking=1)
    harness.until_published(0)
    harness.launcher.mode = "lingers, then fails"
    harness.until(lambda: len(harness.launcher.started) == 2)
    write_two(harness, 1)
    harness.until(lambda: harness.runner.progress.doing == "lingering")
    write_two(harness, 3)
    harness.until(lambda: len(harness.launcher.started) == 3)
    let_go_on(harness)
    harness.until(lambda: harness.runner.cycle.phase == "parked")
    harness.until(lambda: harness.launcher.started[2].poll() is not None)


def test_after_a_restart_the_first_rollout_starts_the_warm_trainer(make_harness):
    before = make_harness()
    before.until_published(0)
    before.close()
    harness = make_harness(keep_warm=True)
    harness.until(lambda: harness.inbox.is_up_to_date)
    assert harness.launcher.started == []
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: len(harness.launcher.started) == 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.trainer_pid is not None)
    assert harness.runner.trainer_pid == harness.launcher.started[0].pid


def test_no_warm_trainer_starts_while_the_project_is_paused(make_harness):
    before = make_harness()
    before.until_published(0)
    before.close()
    harness = make_harness(keep_warm=True)
    harness.ledger.set_meta("paused", "1")
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert harness.launcher.started == []
    harness.ledger.set_meta("paused", None)
    harness.until(lambda: len(harness.launcher.started) == 1)
