"""The environment of the state machine: a daemon without threads and processes, a faulty disk, scripted trainers."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast
from unittest.mock import patch

from daemon.ledger.records import FileSignature, RolloutRow
from daemon.process.child import Child, ChildSpec
from daemon.rollouts.reading.examination import Examiner
from daemon.rollouts.reading.reader import Outcome, compare_with_earlier, ingest
from schemas.job import EpochDone, Event, Failure, Job, Ready, Result, Suspect
from schemas.rollout.meaning.rules import ReadingRules
from schemas.storage.files import Disk, sha256_of
from schemas.storage.layout import ProjectPaths
from tests.fakes.trainer import with_fault
from tests.faults.support.disk import Op, TestDisk, os_error, win_error
from tests.faults.support.harness import InstantChild, InstantHarness, InstantLauncher, train
from tests.helpers import FakeClock

SUCCEEDING = ("ok",)
FAILING = ("fails", "asks for another try", "is killed", "hangs", "hangs and ignores", "ends without a result")
BLAMING = ("names its first rollout", "names all its rollouts", "blames its parent")
DAMAGING = ("nan weights", "wrong probe", "wrong shapes", "torn checkpoint", "no checkpoint", "nan losses")
BEHAVIOURS = (*SUCCEEDING, *FAILING, *BLAMING, *DAMAGING)


class Killed(BaseException):
    """Ends the daemon before an operation of the disk, like kill -9: no code of the daemon catches it."""


class NoWaitClock(FakeClock):
    """A clock whose `sleep` moves the time and does not wait."""

    def sleep(self, seconds: float) -> None:
        self.pass_s(seconds)


class FaultyDisk(TestDisk):
    """A disk that can be full, refuse renames, fail once, or kill the daemon; `counts` counts these events."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__(self._before)
        self.counts = counts
        self.is_full = False
        self.denied = 0  #: how many renames are still refused, as on Windows
        self.kill_in: int | None = None  #: operations until the daemon is killed
        self.fail_in: int | None = None  #: operations until one fails
        self.is_dead = False

    def _before(self, number: int, op: Op) -> None:
        self.ops.clear()
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in <= 0:
                self.kill_in, self.is_dead = None, True
                self.counts["killed at an operation"] += 1
        if self.is_dead:
            raise Killed
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in <= 0:
                self.fail_in = None
                self.counts["operations failed"] += 1
                raise os_error(errno.EIO)(op.path)
        if self.is_full and op.kind in {"write", "append", "make_folder"}:
            self.counts["writes refused"] += 1
            raise os_error(errno.ENOSPC)(op.path)
        if self.denied and op.kind == "rename":
            self.denied -= 1
            self.counts["renames refused"] += 1
            raise win_error(32)(op.path)

    def heal(self) -> None:
        self.is_full, self.denied, self.kill_in, self.fail_in = False, 0, None, None


class SilentWatcher:
    """Replaces the watcher, which only triggers scans. It sends no events."""

    def __init__(self, folder: Path, notify: Callable[[], None]) -> None:
        pass

    def check(self) -> str | None:
        return None

    def stop(self) -> None:
        pass


class InThreadReader:
    """Replaces the reader's thread: files that one pass requests are read at the beginning of the next pass."""

    def __init__(
        self,
        paths: ProjectPaths,
        wake: Callable[[], None],
        disk: Disk,
        read_large: object,
        recent: Sequence[RolloutRow],
    ) -> None:
        self._paths, self._disk = paths, disk
        self._examiner = Examiner(paths, [(row.name, row.sha256) for row in recent])
        self._requested: dict[str, tuple[FileSignature, ReadingRules]] = {}

    def request(self, name: str, signature: FileSignature, rules: ReadingRules) -> None:
        self._requested.setdefault(name, (signature, rules))

    @property
    def is_busy(self) -> bool:
        return bool(self._requested)

    @property
    def queued_count(self) -> int:
        return len(self._requested)

    def save_comparison(self) -> None:
        self._examiner.save(self._disk)

    def collect_outcomes(self, limit: int) -> list[Outcome]:
        requested, self._requested = list(self._requested.items()), {}
        return [
            compare_with_earlier(
                ingest(self._paths.exports, name, signature, self._paths, rules, disk=self._disk), self._examiner
            )
            for name, (signature, rules) in requested
        ]

    def close(self) -> None:
        pass


class ScriptedChild(InstantChild):
    """A trainer that sends one event at each call of `events`, and ends as its behaviour requires."""

    def __init__(self, behaviour: str) -> None:
        super().__init__(lambda job: [])
        self._behaviour = behaviour
        self._left: deque[Event] = deque()
        self._ends_with: int | None = None

    def send(self, job: Job) -> None:
        self._left, self._ends_with = script_of(self._behaviour if job.kind == "train" else "ok", job)

    def events(self) -> list[Event]:
        if not self._left:
            return []
        event = self._left.popleft()
        if not self._left and self._ends_with is not None:
            self.end(self._ends_with)
        return [event]

    def terminate(self) -> None:
        if self._behaviour != "hangs and ignores":
            super().terminate()


def script_of(behaviour: str, job: Job) -> tuple[deque[Event], int | None]:
    """Return the events and the exit code of a behaviour; the code is None if the trainer does not end by itself."""
    ready = Ready(versions={"scripted": "1"})
    match behaviour:
        case "fails":
            return deque([ready, Failure(code="E_DATA", message="no good")]), 65
        case "names its first rollout" | "names all its rollouts":
            named = job.rollouts[: None if "all" in behaviour else 1]
            suspects = tuple(Suspect(sha256=r.sha256, name=r.name, reason="a reward is 9e+11") for r in named)
            return deque([ready, Failure(code="E_PROBE", message="no good", suspects=suspects)]), 65
        case "blames its parent":
            return deque([ready, Failure(code="E_PROBE", message="no good", blames_parent=True)]), 65
        case "asks for another try":
            return deque([ready, Failure(code="E_MEMORY", message="no memory")]), 75
        case "is killed":
            return deque([ready]), -9
        case "ends without a result":
            return deque([ready]), 0
        case "hangs" | "hangs and ignores":
            return deque([ready]), None
    events = train(job)
    result = events[-1]
    assert isinstance(result, Result)
    output = Path(job.output)
    match behaviour:
        case "torn checkpoint":
            (output / result.checkpoint).write_bytes(b"ch")
        case "no checkpoint":
            (output / result.checkpoint).unlink()
        case "nan losses":
            nothing: dict[str, float | None] = {"value_loss": None}
            bad = [event.model_copy(update={"losses": nothing}) for event in events if isinstance(event, EpochDone)]
            return deque([ready, *bad, Failure(code="E_DIVERGED", message="no epoch has a finite loss")]), 65
        case "nan weights" | "wrong probe" | "wrong shapes":
            model = output / result.model
            model.write_bytes(with_fault(model.read_bytes(), behaviour))
            events[-1] = result.model_copy(
                update={"files": {**result.files, result.model: sha256_of(model.read_bytes())}}
            )
    return deque(events), 0


class ScriptedLauncher(InstantLauncher):
    """Starts trainers with the current behaviour."""

    behaviour = "ok"

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        return cast(Child, ScriptedChild(self.behaviour))


class MachineHarness(InstantHarness):
    """A daemon whose passes take no time and start no thread."""

    launcher: ScriptedLauncher

    def __init__(self, folder: Path, *, disk: FaultyDisk, clock: NoWaitClock, behaviour: str) -> None:
        super().__init__(
            folder,
            disk=disk,
            clock=clock,
            startup_timeout_s=20.0,
            silence_timeout_s=15.0,
            progress_timeout_s=30.0,
            training_timeout_s=60.0,
            incomplete_timeout_s=6.0,
            stop_grace_s=2.0,
            keep_cycles=5,
        )
        self.launcher.behaviour = behaviour

    def await_reader(self) -> None:
        """Do nothing: the reader has no thread here."""


def no_processes(*arguments: object) -> list[object]:
    """Return no processes: none is started here, and a search would take most of the time."""
    return []


@contextlib.contextmanager
def in_one_thread() -> Iterator[None]:
    """Replace what needs threads, processes and file events while a `MachineHarness` is used."""
    with contextlib.ExitStack() as stack:
        for target, replacement in (
            ("daemon.rollouts.inbox.Watcher", SilentWatcher),
            ("daemon.rollouts.inbox.RolloutReader", InThreadReader),
            ("tests.faults.support.harness.InstantLauncher", ScriptedLauncher),
            ("daemon.diagnostics.invariants.find_processes", no_processes),
            ("daemon.training.runner.kill_orphans", lambda project: (0, [])),
        ):
            stack.enter_context(patch(target, replacement))
        yield
