"""Cycles that fail because of their rollouts or their parent are trained again without them (rows 73 to 77)."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest

from daemon.ledger.cycle import Phase
from schemas.job import Event, ExitCode, Failure, Job, Ready, Suspect
from tests.faults.support.children import begin_cycle, opened
from tests.faults.support.disk import FAULTS, TestDisk
from tests.faults.support.harness import InstantHarness, train, violations
from tests.faults.support.machine_world import FaultyDisk, Killed
from tests.helpers import v1_bytes, write_rollout

REASON = "a reward is 9e+11"


def name_of(index: int) -> str:
    return f"rollout_{index}_20261121_120000.json"


class FailingTrainer:
    """A trainer that fails if some rollouts or parents are in its job, and names them."""

    def __init__(self, harness: InstantHarness, *, bad: Collection[int] = (), names_them: bool = True) -> None:
        self.harness, self.names_them = harness, names_them
        self.bad = {name_of(index) for index in bad}
        self.bad_parents: set[str] = set()  #: names of the folders of cycles
        self.jobs: list[Job] = []
        self.exit_code: int = ExitCode.BAD_DATA
        harness.launcher.answer = self

    def __call__(self, job: Job) -> list[Event]:
        if job.kind != "train":
            return train(job)
        self.jobs.append(job)
        suspects = tuple(
            Suspect(sha256=r.sha256, name="../another.json", reason=REASON) for r in job.rollouts if r.name in self.bad
        )
        is_parent_bad = bool(job.parent) and Path(job.parent).parent.name in self.bad_parents
        if not suspects and not is_parent_bad:
            return train(job)
        self.harness.launcher.started[-1].end(self.exit_code)
        if not self.names_them:
            return [Ready(versions={})]
        failure = Failure(code="E_PROBE", message="no [E_PROBE]", suspects=suspects, blames_parent=is_parent_bad)
        return [Ready(versions={}), failure]

    @property
    def parents(self) -> list[str]:
        return [f"{Path(job.parent).parent.name}{'+' if job.fresh_statistics else ''}" if job.parent else "none"
                for job in self.jobs]  # fmt: skip


def until_over(harness: InstantHarness, cycle: int) -> None:
    def is_over() -> bool:
        now = harness.runner.cycle
        return now is not None and now.id >= cycle and not harness.runner.busy

    harness.until(is_over)


@pytest.mark.fault(73)
def test_a_rollout_that_makes_a_cycle_fail_is_rejected_and_the_others_are_trained_at_once(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, auto_train_after_n_rollouts=3, retry_delay_s=3000.0) as harness:
        trainer = FailingTrainer(harness, bad={2})
        began = harness.clock.now
        harness.write_rollouts(1, 2, 3)
        harness.until_version(1)
        assert harness.clock.now - began < 60.0
        assert [len(job.rollouts) for job in trainer.jobs] == [3, 2]
        harness.tick()
        reason = (harness.paths.rejected / f"{name_of(2)}.reason.txt").read_text(encoding="utf-8")
        assert f"cycle 1 failed because of it: {REASON} -> " in reason
        assert "move it back to Exports" in reason
        assert [p.name for p in harness.paths.rejected.glob("*.json")] == [name_of(2)]
        assert harness.ledger.rejections(9)[0][:2] == (name_of(2), "E_SUSPECT")
        assert harness.ledger.history()[-1].rollouts == (name_of(1), name_of(3))
        warnings = [line for line in harness.log.lines if line.startswith("WARNING")]
        assert any(line.startswith(f"WARNING cycle 1: no [E_PROBE]; it is trained again without {name_of(2)}")
                   for line in warnings)  # fmt: skip
        assert any(
            line.startswith(f"WARNING {name_of(2)} was rejected: cycle 1 failed because of it: ") for line in warnings
        )
        harness.write_rollouts(4, 5, 6)
        harness.until_version(2)
        assert name_of(2) not in {r.name for r in trainer.jobs[-1].rollouts}
    assert violations(folder) == ()


@pytest.mark.fault(73)
@pytest.mark.parametrize("attempts", [1, 3], ids=["once", "daemon"])
def test_a_process_that_names_a_rollout_is_started_again_without_it(fresh_project, attempts):
    with opened(fresh_project(), attempts=attempts, retry_delay_s=3000.0) as harness:
        begin_cycle(harness, f"cannot use {name_of(2)}")
        harness.until_published(1)
        harness.until((harness.paths.rejected / f"{name_of(2)}.reason.txt").exists)
        assert harness.ledger.history()[-1].rollouts == (name_of(1),)
        assert len(harness.launcher.started) == 2


@pytest.mark.fault(73)
def test_a_suspect_rollout_of_an_earlier_cycle_is_rejected_too(fresh_project):
    with InstantHarness(fresh_project()) as harness:
        trainer = FailingTrainer(harness)
        harness.write_rollouts(1, 2)
        harness.until_version(1)
        trainer.bad = {name_of(2)}
        harness.write_rollouts(3, 4)
        harness.until_version(2)
        harness.tick()
        assert not (harness.paths.exports / name_of(2)).exists()
        assert harness.ledger.history()[-1].rollouts == (name_of(3), name_of(4))


@pytest.mark.fault(73)
def test_if_all_its_rollouts_are_suspect_the_cycle_fails_once_and_the_next_one_works(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, failures_before_parking=1) as harness:
        trainer = FailingTrainer(harness, bad={1, 2})
        harness.write_rollouts(1, 2)
        until_over(harness, 1)
        assert harness.runner.cycle.phase is Phase.FAILED
        assert len(trainer.jobs) == 1
        harness.write_rollouts(3, 4)
        harness.until_version(2)
        assert {r.name for r in trainer.jobs[-1].rollouts} == {name_of(3), name_of(4)}
    assert violations(folder) == ()


@pytest.mark.fault(73)
def test_a_cycle_on_old_rollouts_only_is_trained_again_without_the_suspect(fresh_project):
    with InstantHarness(fresh_project()) as harness:
        trainer = FailingTrainer(harness)
        harness.write_rollouts(1, 2)
        harness.until_version(1)
        trainer.bad = {name_of(1)}
        harness.service.trigger("trigger", again=True)
        harness.until_version(2)
        assert [r.name for r in trainer.jobs[-1].rollouts] == [name_of(2)]


@pytest.mark.fault(73)
def test_a_trainer_that_always_names_more_rollouts_is_not_asked_for_ever(fresh_project):
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=6) as harness:
        trainer = FailingTrainer(harness)

        def name_one_more(job: Job) -> list[Event]:
            trainer.bad = {job.rollouts[0].name}
            return trainer(job)

        harness.launcher.answer = name_one_more
        harness.write_rollouts(*range(1, 7))
        until_over(harness, 1)
        assert harness.runner.cycle.phase is Phase.FAILED
        assert len(trainer.jobs) == 3


@pytest.mark.fault(73)
@pytest.mark.parametrize("has_changed", [False, True])
def test_a_suspect_rollout_that_a_user_moves_back_is_used_again(fresh_project, has_changed):
    folder = fresh_project()
    with InstantHarness(folder, auto_train_after_n_rollouts=3) as harness:
        trainer = FailingTrainer(harness, bad={2})
        harness.write_rollouts(1, 2, 3)
        harness.until_version(1)
        rejected = harness.paths.rejected / name_of(2)
        harness.until(rejected.exists)
        trainer.bad = set()
        if has_changed:
            rejected.write_bytes(v1_bytes(seed=77))
        os.replace(rejected, harness.paths.exports / name_of(2))
        harness.write_rollouts(*((4, 5) if has_changed else (4, 5, 6)))
        harness.until_version(2)
        by_name = {r.name: r.is_new for r in trainer.jobs[-1].rollouts}
        assert by_name[name_of(2)] is has_changed
        assert (harness.paths.exports / name_of(2)).exists()
    assert violations(folder) == ()


@pytest.mark.fault(73)
def test_a_suspect_file_that_cannot_be_moved_is_not_used_and_moved_later(fresh_project):
    folder = fresh_project()
    disk = TestDisk()
    is_open = True

    def hold(number, op):
        if is_open and op.kind == "rename" and op.path.name == name_of(2):
            raise FAULTS["winerror 32"](op.path)

    disk.before = hold
    with InstantHarness(folder, disk=disk) as harness:
        FailingTrainer(harness, bad={2})
        harness.write_rollouts(1, 2)
        harness.until_version(1)
        assert (harness.paths.exports / name_of(2)).exists()
        assert sum("cannot be moved and stays in Exports" in line for line in harness.log.lines) == 1
    is_open = False
    with InstantHarness(folder) as harness:
        harness.until((harness.paths.rejected / name_of(2)).exists)
        assert harness.ledger.pending_count() == 0
    assert violations(folder) == ()


def kill_in_the_removal(folder: Path, operation: int) -> bool:
    """Kill a daemon at this disk operation after a trainer has named a rollout; return whether its file was moved."""
    disk = FaultyDisk(Counter())
    harness = InstantHarness(folder, disk=disk, auto_train_after_n_rollouts=3)
    trainer = FailingTrainer(harness, bad={2})
    harness.write_rollouts(1, 2, 3)
    harness.until(lambda: bool(trainer.jobs))
    disk.kill_in = operation
    with pytest.raises(Killed):
        harness.until_version(9)
    harness.crash()
    return bool(moved(harness))


def moved(harness: InstantHarness) -> list[Path]:
    """Return the rejected files of rollout 2. After a crash the name can have a number."""
    return [path for path in harness.paths.rejected.glob(f"{name_of(2)}*") if path.suffix != ".txt"]


@pytest.mark.fault(74)
def test_a_kill_at_any_operation_of_the_removal_loses_nothing(fresh_project):
    for operation in itertools.count(1):
        folder = fresh_project()
        was_moved = kill_in_the_removal(folder, operation)
        with InstantHarness(folder, auto_train_after_n_rollouts=3) as harness:
            trainer = FailingTrainer(harness, bad={2})
            harness.until_version(1)
            harness.until(lambda: len(moved(harness)) == 1)
            assert harness.ledger.history()[-1].rollouts == (name_of(1), name_of(3))
            assert len(trainer.jobs) == 1, "the ledger has named the rollout before its file was moved"
        assert violations(folder) == ()
        if was_moved:
            break
    assert operation > 3


@pytest.mark.fault(75)
def test_a_giant_rollout_is_rejected_if_memory_runs_out_repeatedly(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, auto_train_after_n_rollouts=3) as harness:
        trainer = FailingTrainer(harness, bad={2}, names_them=False)
        trainer.exit_code = -9
        harness.write_rollouts(1, 3)
        write_rollout(harness.paths.exports, 2, v1_bytes(seed=2, n=640))
        harness.until_version(1)
        assert [len(job.rollouts) for job in trainer.jobs] == [3, 3, 2]
        harness.tick()
        reason = (harness.paths.rejected / f"{name_of(2)}.reason.txt").read_text(encoding="utf-8")
        assert "memory ran out: it has 640 experiences, all other rollouts together 128" in reason
    assert violations(folder) == ()


@pytest.mark.fault(75)
def test_without_a_giant_rollout_no_rollout_is_blamed_for_the_memory(fresh_project):
    with InstantHarness(fresh_project()) as harness:
        trainer = FailingTrainer(harness, bad={2}, names_them=False)
        trainer.exit_code = -9
        harness.write_rollouts(1, 2)
        until_over(harness, 1)
        assert harness.runner.cycle.phase is Phase.FAILED
        assert harness.ledger.rejected_count() == 0


def with_cycles(harness: InstantHarness, count: int) -> FailingTrainer:
    """Train some cycles of one rollout each."""
    trainer = FailingTrainer(harness)
    for cycle in range(1, count + 1):
        harness.write_rollouts(cycle)
        harness.until_version(cycle)
    trainer.jobs.clear()
    return trainer


@pytest.mark.fault(76)
def test_a_cycle_goes_back_from_a_bad_parent_in_steps_that_double(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, auto_train_after_n_rollouts=1) as harness:
        trainer = with_cycles(harness, 6)
        trainer.bad_parents = {f"cycle_{n:06d}" for n in (3, 4, 5, 6)}
        harness.write_rollouts(7)
        harness.until_version(7)
        assert trainer.parents == ["cycle_000006", "cycle_000005", "cycle_000004", "cycle_000002"]
        assert "W_OLDER_PARENT" in harness.warnings()
        line = next(line for line in harness.log.lines if "it continues from version 2" in line)
        assert line.startswith("WARNING cycle 7 cannot be trained from version 6 (no [E_PROBE]): ")
        harness.write_rollouts(8)
        harness.until_version(8)
        assert trainer.parents[-1] == "cycle_000007"
        assert "W_OLDER_PARENT" not in harness.warnings()
    assert violations(folder) == ()


@pytest.mark.fault(76)
def test_the_last_parents_are_the_policy_alone_and_version_0_and_then_the_cycle_fails(fresh_project):
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=1) as harness:
        trainer = with_cycles(harness, 2)
        trainer.bad_parents = {"cycle_000001", "cycle_000002"}

        def fail_even_from_the_policy_alone(job: Job) -> list[Event]:
            changed = job.model_copy(update={"fresh_statistics": False})
            events = trainer(changed)
            trainer.jobs[-1:] = [job] if job.kind == "train" else []
            return events

        harness.launcher.answer = fail_even_from_the_policy_alone
        harness.write_rollouts(3)
        harness.until_version(3)
        assert trainer.parents == ["cycle_000002", "cycle_000001", "cycle_000002+", "none"]


@pytest.mark.fault(76)
def test_a_cycle_that_fails_soon_after_another_went_back_goes_back_further(fresh_project):
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=1) as harness:
        trainer = with_cycles(harness, 6)
        trainer.bad_parents = {"cycle_000006"}
        harness.write_rollouts(7)
        harness.until_version(7)
        trainer.bad_parents = {"cycle_000007"}
        harness.write_rollouts(8)
        harness.until_version(8)
        assert trainer.parents == ["cycle_000006", "cycle_000005", "cycle_000007", "cycle_000005"]


@pytest.mark.fault(76)
def test_a_restart_continues_with_the_parent_that_the_cycle_went_back_to(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, auto_train_after_n_rollouts=1) as harness:
        trainer = with_cycles(harness, 3)
        trainer.bad_parents = {"cycle_000003"}
        harness.write_rollouts(4)
        harness.until(lambda: "W_OLDER_PARENT" in harness.warnings())
    with InstantHarness(folder, auto_train_after_n_rollouts=1) as harness:
        trainer = FailingTrainer(harness)
        harness.until_version(4)
        assert trainer.parents == ["cycle_000002"]


@pytest.mark.fault(77)
def test_a_trainer_that_crashes_with_one_parent_goes_back_but_never_to_version_0(fresh_project):
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=1, retry_delay_s=0.1) as harness:
        trainer = with_cycles(harness, 2)

        def crash(job: Job) -> list[Event]:
            trainer.jobs.append(job)
            harness.launcher.started[-1].end(-11)
            return [Ready(versions={})]

        harness.launcher.answer = crash
        harness.write_rollouts(3)
        until_over(harness, 3)
        assert harness.runner.cycle.phase is Phase.PARKED
        assert trainer.parents[:4] == ["cycle_000002", "cycle_000002", "cycle_000002", "cycle_000001"]
        assert "none" not in trainer.parents
        assert len(trainer.parents) == 5
        harness.launcher.answer = trainer
        harness.service.trigger("trigger")
        harness.until_version(3)
        assert trainer.parents[-1] == "cycle_000002"
