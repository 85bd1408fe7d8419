"""The world of the state machine: a daemon without threads and processes, a disk that fails, a trainer with moods."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from unittest.mock import patch

from daemon.ledger.records import FileSignature
from daemon.process.child import Child, ChildSpec
from daemon.rollouts.reader import Outcome, ingest
from schemas.job import EpochDone, Event, Failure, Job, Ready, Result
from schemas.storage.files import Disk, sha256_of
from schemas.storage.layout import ProjectPaths
from tests.fakes.trainer import spoilt
from tests.faults.support.disk import Op, TestDisk, os_error, win_error
from tests.faults.support.site import InstantChild, InstantLauncher, Site, train
from tests.helpers import FakeClock

GOOD_END = ("ok",)
FAILING = ("fails", "asks for another try", "is killed", "hangs", "hangs and ignores", "goes without a word")
SPOILT = ("nan weights", "wrong probe", "wrong shapes", "torn checkpoint", "no checkpoint", "nan losses")
MOODS = (*GOOD_END, *FAILING, *SPOILT)


class Killed(BaseException):
    """The daemon is gone before this operation; nothing catches it, as nothing catches kill -9."""


class WorldClock(FakeClock):
    """Waiting takes no time."""

    def sleep(self, seconds: float) -> None:
        self.pass_s(seconds)


class WorldDisk(TestDisk):
    """May be full, refuse renames, fail once, or be what the daemon last saw; `notes` counts what it did."""

    def __init__(self, notes: Counter[str]) -> None:
        super().__init__(self._answer)
        self.notes = notes
        self.is_full = False
        self.denied = 0  #: how many renames are still refused, the way Windows does
        self.kill_in: int | None = None  #: operations until the daemon is killed
        self.fail_in: int | None = None  #: operations until one fails
        self.is_dead = False

    def _answer(self, number: int, op: Op) -> None:
        self.ops.clear()
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in <= 0:
                self.kill_in, self.is_dead = None, True
                self.notes["killed at an operation"] += 1
        if self.is_dead:
            raise Killed
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in <= 0:
                self.fail_in = None
                self.notes["operations failed"] += 1
                raise os_error(errno.EIO)(op.path)
        if self.is_full and op.kind in {"write", "append", "make_folder"}:
            self.notes["writes refused"] += 1
            raise os_error(errno.ENOSPC)(op.path)
        if self.denied and op.kind == "rename":
            self.denied -= 1
            self.notes["renames refused"] += 1
            raise win_error(32)(op.path)

    def heal(self) -> None:
        self.is_full, self.denied, self.kill_in, self.fail_in = False, 0, None, None


class StillWatcher:
    """In the place of the watcher, which is only a hint: no events at all."""

    def __init__(self, folder: Path, nudge: Callable[[], None]) -> None:
        pass

    def check(self) -> str | None:
        return None

    def stop(self) -> None:
        pass


class AtOnceIntake:
    """In the place of the intake's thread: what is wanted in one pass is read at the beginning of the next."""

    def __init__(self, paths: ProjectPaths, wake: Callable[[], None], disk: Disk, aside: object) -> None:
        self._paths, self._disk = paths, disk
        self._wanted: dict[str, FileSignature] = {}

    def request(self, name: str, signature: FileSignature) -> None:
        self._wanted.setdefault(name, signature)

    @property
    def busy(self) -> bool:
        return bool(self._wanted)

    @property
    def under_way(self) -> int:
        return len(self._wanted)

    def outcomes(self, limit: int) -> list[Outcome]:
        wanted, self._wanted = list(self._wanted.items()), {}
        return [ingest(self._paths.exports, name, stamp, self._paths, disk=self._disk) for name, stamp in wanted]

    def close(self) -> None:
        pass


class MoodyChild(InstantChild):
    """A trainer that says one thing a look, and ends as its mood wants it."""

    def __init__(self, mood: str) -> None:
        super().__init__(lambda job: [])
        self._mood = mood
        self._left: deque[Event] = deque()
        self._ends_with: int | None = None

    def send(self, job: Job) -> None:
        self._left, self._ends_with = moody(self._mood if job.kind == "train" else "ok", job)

    def events(self) -> list[Event]:
        if not self._left:
            return []
        said = self._left.popleft()
        if not self._left and self._ends_with is not None:
            self.end(self._ends_with)
        return [said]

    def terminate(self) -> None:
        if self._mood != "hangs and ignores":
            super().terminate()


def moody(mood: str, job: Job) -> tuple[deque[Event], int | None]:
    """Return what a trainer in this mood says, and its exit code; None where it does not end by itself."""
    ready = Ready(versions={"moody": "1"})
    match mood:
        case "fails":
            return deque([ready, Failure(code="E_DATA", message="no good")]), 65
        case "asks for another try":
            return deque([ready, Failure(code="E_MEMORY", message="no memory")]), 75
        case "is killed":
            return deque([ready]), -9
        case "goes without a word":
            return deque([ready]), 0
        case "hangs" | "hangs and ignores":
            return deque([ready]), None
    said = train(job)
    result = said[-1]
    assert isinstance(result, Result)
    output = Path(job.output)
    match mood:
        case "torn checkpoint":
            (output / result.checkpoint).write_bytes(b"ch")
        case "no checkpoint":
            (output / result.checkpoint).unlink()
        case "nan losses":
            nothing: dict[str, float | None] = {"value_loss": None}
            bad = [event.model_copy(update={"losses": nothing}) for event in said if isinstance(event, EpochDone)]
            return deque([ready, *bad, Failure(code="E_DIVERGED", message="every epoch is no number")]), 65
        case "nan weights" | "wrong probe" | "wrong shapes":
            model = output / result.model
            model.write_bytes(spoilt(model.read_bytes(), mood))
            said[-1] = result.model_copy(
                update={"files": {**result.files, result.model: sha256_of(model.read_bytes())}}
            )
    return deque(said), 0


class MoodyLauncher(InstantLauncher):
    """Starts trainers in the mood of the moment."""

    mood = "ok"

    def start(self, spec: ChildSpec, *, speaks_events: bool) -> Child:
        return cast(Child, MoodyChild(self.mood))


class WorldSite(Site):
    """A daemon whose passes take no real time and start no thread."""

    launcher: MoodyLauncher

    def __init__(self, folder: Path, *, disk: WorldDisk, clock: WorldClock, mood: str) -> None:
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
        self.launcher.mood = mood

    def await_mail(self) -> None:
        """Nothing: the intake has no thread here."""


def no_processes(*arguments: object) -> list[object]:
    """No process is ever started here, so none is looked for: that would be most of the time."""
    return []


@contextlib.contextmanager
def in_one_thread() -> Iterator[None]:
    """While inside, a `WorldSite` needs no thread, no process and no event of the system."""
    with contextlib.ExitStack() as stack:
        for target, double in (
            ("daemon.rollouts.inbox.Watcher", StillWatcher),
            ("daemon.rollouts.inbox.RolloutReader", AtOnceIntake),
            ("tests.faults.support.site.InstantLauncher", MoodyLauncher),
            ("daemon.diagnostics.invariants.find_processes", no_processes),
            ("daemon.training.runner.kill_orphans", lambda project: (0, [])),
        ):
            stack.enter_context(patch(target, double))
        yield
