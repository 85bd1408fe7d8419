"""A Hypothesis state machine of one project: rollouts, crashes, disk errors, trainer failures; checks after each step.

Besides the invariant checks, it has a model of the written files: which content must count once, which never, and what
a user wrote.
"""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon.diagnostics.invariants import Invariant, check_invariants
from daemon.diagnostics.ledger_audit import FileFingerprint, read_ledger
from daemon.errors import DaemonError, Exit
from daemon.ledger.cycle import Phase
from daemon.runtime.instance_lock import ProjectLock
from schemas.errors import HotlapError
from schemas.model import check_probe, read_model
from schemas.storage.files import sha256_of
from schemas.storage.layout import ProjectPaths
from tests.faults.support.machine_world import (
    BEHAVIOURS,
    FaultyDisk,
    Killed,
    MachineHarness,
    NoWaitClock,
    in_one_thread,
)
from tests.helpers import v1_bytes

AT_ANY_TIME = {
    *(Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE),
    *(Invariant.NOTHING_LOST, Invariant.USER_FILES),
}
MAX_PASSES = 3000  #: a daemon without faults must recover in fewer passes
BAD = ("truncated", "empty", "nul", "no json", "no rollout")
DAMAGE = {
    "no table": ("DROP TABLE step",),
    "no trigger": ("DROP TRIGGER rollout_counts_once",),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON rollout BEGIN DELETE FROM rollout; END",),
    "a wrong value": ("INSERT OR REPLACE INTO meta VALUES ('notices', '{')",),
    "a path": ("INSERT OR REPLACE INTO file VALUES ('../../x', 1, 1, 1, 'x')",),
    "no phase": ("INSERT INTO cycle (id, kind, cause, phase, created_s) VALUES (9999, 'train', '', 'x', 0)",),
}
NAMES = st.integers(0, 9)
AFTERWARDS = st.tuples(st.integers(0, 3), st.sampled_from((0, 1, 2, 3, 5, 12, 30)))
"""What follows a step: how many rollouts the engine writes, and how many passes the daemon makes."""
COUNTS: Counter[str] = Counter()
"""The actions of all machines in this process, for the command that runs many of them."""


@functools.lru_cache(maxsize=512)
def good(seed: int) -> bytes:
    """Return a small valid rollout; each seed gives another one."""
    return v1_bytes(seed=seed, n=4)


def bad(kind: str, seed: int) -> bytes:
    """Return an invalid file. A truncated one may still grow."""
    match kind:
        case "truncated":
            return good(seed)[:-20]
        case "empty":
            return b""
        case "nul":
            return bytes(100 + seed)
        case "no json":
            return f"rollout {seed}".encode()
    return b'{"experiences": [{"state": "%d"}]}' % seed


class DaemonMachine(RuleBasedStateMachine):
    """One project folder with an engine, a daemon that starts and ends, and faults."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._stack.enter_context(in_one_thread())
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hotlap-machine-"))
        self.folder = Path(folder).resolve() / "project"
        self.paths = ProjectPaths(self.folder)
        self.paths.make()
        self.disk, self.clock = FaultyDisk(COUNTS), NoWaitClock()
        self.behaviour = "ok"
        self.harness: MachineHarness | None = None
        self.lock = ProjectLock(self.paths.lock, clock=self.clock)
        self.fingerprints: dict[str, FileFingerprint] = {}  #: of the files that must not be changed
        self.good: set[str] = set()  #: every content that may count
        self.counted: dict[str, int | None] = {}  #: content -> the cycle that it counted toward; None if it is pending
        self.growing: dict[str, tuple[bytes, int]] = {}  #: incomplete files: all bytes, and how many are written
        self.version = -1  #: the newest that an engine loaded
        self.seeds = self.writes = 0
        self.newest = b""  #: of the rollouts
        self.is_away = False  #: whether Exports was renamed

    @initialize()
    def begin(self) -> None:
        COUNTS["runs"] += 1
        (self.paths.exports / "notes.txt").write_bytes(b"mine")
        self._remember("notes.txt", b"mine")
        self.start()

    # The engine and its user

    def _remember(self, name: str, data: bytes) -> None:
        """Record a file that was just written, with a new mtime: the writes are too fast for the system's clock."""
        self.writes += 1
        at = 1_795_000_000_000_000_000 + self.writes * 1_000_000_000
        os.utime(self.paths.exports / name, ns=(at, at))
        self.fingerprints[name] = FileFingerprint(sha256_of(data), at)

    def _write(self, index: int, data: bytes, *, in_place: bool = False) -> str:
        name = f"rollout_{index}_20261121_120000.json"
        path = self.paths.exports / name
        if in_place:
            path.write_bytes(data)
        else:
            temporary = path.with_name(f"{name}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        self.growing.pop(name, None)
        self._remember(name, data)
        return name

    def _new(self) -> bytes:
        self.seeds += 1
        self.newest = good(self.seeds)
        self.good.add(sha256_of(self.newest))
        return self.newest

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, again=st.booleans(), afterwards=AFTERWARDS)
    def write_good(self, index: int, again: bool, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Write a new rollout, or the newest again. It may overwrite another file."""
        COUNTS["good files"] += 1
        self._write(index, self.newest if again and self.newest else self._new())
        self._continue(afterwards)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, kind=st.sampled_from(BAD), afterwards=AFTERWARDS)
    def write_bad(self, index: int, kind: str, afterwards: tuple[int, int] = (0, 0)) -> None:
        COUNTS["bad files"] += 1
        self.seeds += 1
        self._write(index, bad(kind, self.seeds))
        self._continue(afterwards)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, share=st.floats(0.1, 0.9), afterwards=AFTERWARDS)
    def write_slow(self, index: int, share: float, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Write the beginning of a file in place."""
        COUNTS["slow files"] += 1
        data = self._new()
        written = int(len(data) * share)
        name = self._write(index, data[:written], in_place=True)
        self.growing[name] = (data, written)
        self._continue(afterwards)

    @precondition(lambda self: self.growing and not self.is_away)
    @rule(share=st.sampled_from((0.0, 0.5, 1.0, 1.0)), which=st.integers(0, 9), afterwards=AFTERWARDS)
    def grow(self, share: float, which: int, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Append to an incomplete file if it was not rejected meanwhile."""
        name = sorted(self.growing)[which % len(self.growing)]
        data, written = self.growing[name]
        more = max(1, int((len(data) - written) * share))
        path = self.paths.exports / name
        if not path.exists():
            del self.growing[name]
            return
        with path.open("ab") as file:
            file.write(data[written : written + more])
        written += more
        self._remember(name, data[:written])
        self.growing[name] = (data, written)
        if written >= len(data):
            del self.growing[name]
            COUNTS["slow files finished"] += 1
        self._continue(afterwards)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, afterwards=AFTERWARDS)
    def overwrite_in_place(self, index: int, afterwards: tuple[int, int] = (0, 0)) -> None:
        name = f"rollout_{index}_20261121_120000.json"
        if (self.paths.exports / name).exists():
            COUNTS["overwritten in place"] += 1
            self._write(index, self._new(), in_place=True)
        self._continue(afterwards)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, afterwards=AFTERWARDS)
    def delete(self, index: int, afterwards: tuple[int, int] = (0, 0)) -> None:
        name = f"rollout_{index}_20261121_120000.json"
        if (self.paths.exports / name).exists():
            COUNTS["deleted"] += 1
            (self.paths.exports / name).unlink()
            self.fingerprints.pop(name)
            self.growing.pop(name, None)
        self._continue(afterwards)

    @rule(recreated=st.booleans(), afterwards=AFTERWARDS)
    def rename_exports(self, recreated: bool, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Rename Exports, with or without an empty folder at its path. The next call renames it back."""
        COUNTS["Exports moved"] += 1
        away = self.folder / "away"
        if self.is_away:
            shutil.rmtree(self.paths.exports, ignore_errors=True)
            away.rename(self.paths.exports)
        else:
            self.paths.exports.rename(away)
            if recreated:
                self.paths.exports.mkdir()
        self.is_away = not self.is_away
        self._continue(afterwards)

    @invariant()
    def load_as_engine(self) -> None:
        """Load the named model, as an engine does. It must be complete and not older than at the last read."""
        COUNTS["engine reads"] += 1
        try:
            named = self.paths.pointer.read_text("utf-8")
        except FileNotFoundError:
            assert self.version < 0, "the pointer is gone"
            return
        model = read_model(Path(named).read_bytes())
        check_probe(model)
        assert model.policy_version >= self.version, f"from version {self.version} back to {model.policy_version}"
        self.version = model.policy_version

    # The daemon

    @precondition(lambda self: self.harness is None)
    @rule(afterwards=AFTERWARDS)
    def start(self, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Start the daemon. Only a faulty disk may prevent this."""
        self.disk.is_dead = False
        is_hampered = self.disk.is_full or self.disk.denied or self.disk.fail_in is not None
        self.lock.acquire()
        try:
            self.harness = MachineHarness(self.folder, disk=self.disk, clock=self.clock, behaviour=self.behaviour)
        except (OSError, HotlapError):
            self.lock.release()
            assert is_hampered
            COUNTS["starts refused"] += 1
        except Killed:
            self.lock.release()
        else:
            COUNTS["starts"] += 1
        self._continue(afterwards)

    @precondition(lambda self: self.harness is not None)
    @rule(afterwards=AFTERWARDS)
    def tick(self, afterwards: tuple[int, int]) -> None:
        self._continue(afterwards)

    def _continue(self, afterwards: tuple[int, int]) -> None:
        """Let the engine write rollouts and the daemon make passes, if Exports and the daemon exist."""
        rollouts, passes = afterwards
        for _ in range(0 if self.is_away else rollouts):
            COUNTS["good files"] += 1
            self._write(self.seeds % 10, self._new())
        try:
            for _ in range(passes):
                if self.harness is not None:
                    COUNTS["passes"] += 1
                    self.harness.tick()
        except Killed:
            self._end_daemon()

    @precondition(lambda self: self.harness is not None)
    @rule()
    def crash(self) -> None:
        """Kill the daemon between two passes."""
        COUNTS["killed between passes"] += 1
        self.disk.is_dead = True
        self._end_daemon()

    @precondition(lambda self: self.harness is not None)
    @rule(operations=st.integers(1, 60), afterwards=AFTERWARDS)
    def crash_soon(self, operations: int, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Kill the daemon before one of the next operations of the disk."""
        COUNTS["kills armed"] += 1
        self.disk.kill_in = operations
        self._continue(afterwards)

    @precondition(lambda self: self.harness is not None)
    @rule()
    def stop(self) -> None:
        """Stop the daemon normally, as far as the disk allows."""
        assert self.harness is not None
        COUNTS["stopped"] += 1
        with suppress(Killed):
            self.harness.close()
        self._end_daemon()

    def _end_daemon(self) -> None:
        """End the daemon. Only errors of the disk may have made its passes fail."""
        assert self.harness is not None
        failures = self.harness.failures
        self.harness.crash()
        self.harness = None
        self.lock.release()
        for failure in failures:
            if not isinstance(failure, OSError | HotlapError | sqlite3.Error):
                raise failure

    @precondition(lambda self: self.harness is not None)
    @rule(afterwards=AFTERWARDS)
    def trigger(self, afterwards: tuple[int, int] = (0, 0)) -> None:
        assert self.harness is not None
        COUNTS["triggers"] += 1
        self.harness.service.trigger("trigger")
        self._continue(afterwards)

    @rule(afterwards=AFTERWARDS)
    def second_daemon(self, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Start a second daemon: it is refused while the first one runs, and only then."""
        COUNTS["second daemons"] += 1
        second = ProjectLock(self.paths.lock, clock=self.clock)
        if self.harness is None:
            second.acquire()
            second.release()
            return
        with pytest.raises(DaemonError, match=f"pid {os.getpid()}") as refused:
            second.acquire()
        assert refused.value.exit_code == Exit.OTHER_DAEMON
        self._continue(afterwards)

    # Faults

    @rule(behaviour=st.sampled_from(BEHAVIOURS), afterwards=AFTERWARDS)
    def trainer_outcome(self, behaviour: str, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Set the behaviour of the next trainers."""
        COUNTS[f"trainer: {behaviour}"] += 1
        self.behaviour = behaviour
        if self.harness is not None:
            self.harness.launcher.behaviour = behaviour
        self._continue(afterwards)

    @rule(full=st.booleans(), afterwards=AFTERWARDS)
    def disk_full(self, full: bool, afterwards: tuple[int, int] = (0, 0)) -> None:
        self.disk.is_full = full
        self._continue(afterwards)

    @rule(times=st.sampled_from((1, 3, 12, 40)), afterwards=AFTERWARDS)
    def replace_denied(self, times: int, afterwards: tuple[int, int] = (0, 0)) -> None:
        self.disk.denied = times
        self._continue(afterwards)

    @rule(operations=st.integers(1, 40), afterwards=AFTERWARDS)
    def fail_soon(self, operations: int, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Let one of the next operations of the disk fail."""
        self.disk.fail_in = operations
        self._continue(afterwards)

    @rule(seconds=st.sampled_from((-3600.0, 3600.0, -3e8, 3e8, 90.0)), afterwards=AFTERWARDS)
    def clock_jump(self, seconds: float, afterwards: tuple[int, int] = (0, 0)) -> None:
        COUNTS["clock jumps"] += 1
        self.clock.wall += seconds
        self._continue(afterwards)

    @rule(seconds=st.sampled_from((10.0, 8 * 3600.0)), afterwards=AFTERWARDS)
    def sleep(self, seconds: float, afterwards: tuple[int, int] = (0, 0)) -> None:
        COUNTS["sleeps"] += 1
        self.clock.pass_s(seconds)
        self._continue(afterwards)

    @precondition(lambda self: self.harness is None and self.paths.ledger.exists())
    @rule(how=st.sampled_from(sorted(DAMAGE)), afterwards=AFTERWARDS)
    def damage_ledger(self, how: str, afterwards: tuple[int, int] = (0, 0)) -> None:
        """Change the ledger as Hotlap never does, and start the daemon: it knows what was used where, as before."""
        COUNTS[f"ledger: {how}"] += 1
        self.disk.heal()
        with closing(sqlite3.connect(self.paths.ledger, isolation_level=None)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                return  # a kill during the first start has left it empty
            for statement in DAMAGE[how]:
                db.execute(statement)
        self.start()
        assert self.harness is not None
        assert "W_LEDGER_REBUILT" in self.harness.warnings()
        self._continue(afterwards)

    # Invariants

    @invariant()
    def check_all_invariants(self) -> None:
        """Run the invariant checks that must pass at any time, and compare the ledger with the model."""
        if not self.paths.ledger.exists():
            return
        COUNTS["invariant checks"] += 1
        before = {} if self.is_away else self.fingerprints
        broken = [v for v in check_invariants(self.folder, before=before) if v.invariant in AT_ANY_TIME]
        assert broken == [], self._describe(broken)
        self._count()

    def _count(self) -> None:
        contents = read_ledger(self.paths)
        now = {rollout.sha256: rollout.cycle_id for rollout in contents.rollouts}
        assert len(now) == len(contents.rollouts), "a content is in the ledger twice"
        assert now.keys() <= self.good, "something counts that is not a rollout"
        for sha256, cycle_id in self.counted.items():
            assert sha256 in now, f"{sha256[:12]} was accepted and is no longer in the ledger"
            assert cycle_id is None or now[sha256] == cycle_id, f"{sha256[:12]}: cycle {cycle_id}, then {now[sha256]}"
        self.counted = now

    def _describe(self, what: object) -> str:
        log = self.harness.log.lines[-20:] if self.harness is not None else []
        return "\n".join([str(what), *log])

    # The end

    def teardown(self) -> None:
        try:
            self._recovers()
        finally:
            if self.harness is not None:
                self.harness.crash()
                self.lock.release()
            self._stack.close()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        assert self.harness is not None
        for _ in range(MAX_PASSES):
            self.harness.tick()
            if condition():
                return
            cycle = self.harness.runner.cycle
            is_waiting = cycle is not None and (
                cycle.phase is Phase.PARKED or (cycle.kind == "initial" and cycle.phase is Phase.FAILED)
            )
            if is_waiting and not self.harness.service.is_triggered:
                self.harness.service.trigger("drained")
        raise AssertionError(self._describe(f"did not happen: {what}"))

    def _recovers(self) -> None:
        """Check that without faults the next cycle is published, every rollout counts, and no leftover files remain."""
        self.disk.heal()
        self.trainer_outcome("ok")
        if self.is_away:
            self.rename_exports(False)
        if self.harness is None:
            self.start()
        harness = self.harness
        assert harness is not None, "it does not start"
        before = harness.version
        for index in (100, 101):
            self._write(index, self._new())
        self._until(lambda: harness.version > max(0, before) and not harness.runner.busy, "another model is published")
        self._until(lambda: not self._left_over() & self.good and not harness.runner.busy, "every rollout is accepted")
        self.check_all_invariants()
        self.load_as_engine()
        assert self.version == harness.version
        self.stop()
        self.start()
        again = self.harness
        assert again is not None, "it does not start again"
        self._until(
            lambda: not self._left_over(), "the other files are rejected"
        )  # a restart moves the files that could not be moved before
        self._until(lambda: not again.warnings() - {"W_REJECTED"}, "no warning is left")
        self.check_all_invariants()
        COUNTS["models published"] += again.version
        self.stop()
        found = check_invariants(self.folder, before=self.fingerprints, litter_age_s=0.0)
        assert found == (), self._describe(found)

    def _left_over(self) -> set[str]:
        """Return the hashes of files in Exports that neither count nor were rejected."""
        contents = read_ledger(self.paths)
        counted = {rollout.sha256 for rollout in contents.rollouts}
        return {
            file.sha256
            for name, file in self.fingerprints.items()
            if name != "notes.txt" and (self.paths.exports / name).exists() and file.sha256 not in counted
        }
