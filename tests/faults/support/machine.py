"""A Hypothesis state machine on one project: rollouts, crashes, disk errors and trainer failures, checked after each.

Besides the invariant checks it has a model of what was dropped: which content must count once, which never, and what a
user wrote.
"""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
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
from tests.faults.support.machine_world import BEHAVIOURS, FaultyDisk, Killed, MachineSite, NoWaitClock, in_one_thread
from tests.helpers import v1_bytes

AT_ANY_MOMENT = {
    *(Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE),
    *(Invariant.NOTHING_LOST, Invariant.USER_FILES),
}
MAX_PASSES = 3000  #: after so many, a daemon without faults must have recovered
BAD = ("truncated", "empty", "nul", "no json", "no rollout")
NAMES = st.integers(0, 9)
MOMENT = st.tuples(st.integers(0, 3), st.sampled_from((0, 1, 2, 3, 5, 12, 30)))
"""What happens after a step: how many rollouts the engine drops, and how many passes the daemon makes."""
COUNTS: Counter[str] = Counter()
"""What all machines of this process did, for the command that runs many."""


@functools.lru_cache(maxsize=512)
def good(seed: int) -> bytes:
    """Return a small rollout; each seed gives another one."""
    return v1_bytes(seed=seed, n=4)


def bad(kind: str, seed: int) -> bytes:
    """Return a file that cannot be used; a truncated one may still grow."""
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
        self.layout = ProjectPaths(self.folder)
        self.layout.make()
        self.disk, self.clock = FaultyDisk(COUNTS), NoWaitClock()
        self.behaviour = "ok"
        self.site: MachineSite | None = None
        self.lock = ProjectLock(self.layout.lock, clock=self.clock)
        self.prints: dict[str, FileFingerprint] = {}  #: of what the user wrote and nobody may touch
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
        (self.layout.exports / "notes.txt").write_bytes(b"mine")
        self._note_print("notes.txt", b"mine")
        self.start()

    # The engine and its user

    def _note_print(self, name: str, data: bytes) -> None:
        """Record a file that was just written, with an mtime of its own: the writes are too quick."""
        self.writes += 1
        at = 1_795_000_000_000_000_000 + self.writes * 1_000_000_000
        os.utime(self.layout.exports / name, ns=(at, at))
        self.prints[name] = FileFingerprint(sha256_of(data), at)

    def _write(self, index: int, data: bytes, *, in_place: bool = False) -> str:
        name = f"rollout_{index}_20261121_120000.json"
        path = self.layout.exports / name
        if in_place:
            path.write_bytes(data)
        else:
            temporary = path.with_name(f"{name}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        self.growing.pop(name, None)
        self._note_print(name, data)
        return name

    def _new(self) -> bytes:
        self.seeds += 1
        self.newest = good(self.seeds)
        self.good.add(sha256_of(self.newest))
        return self.newest

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, again=st.booleans(), moment=MOMENT)
    def drop_good(self, index: int, again: bool, moment: tuple[int, int] = (0, 0)) -> None:
        """Write a new rollout, or the newest again; it may overwrite another one."""
        COUNTS["good files"] += 1
        self._write(index, self.newest if again and self.newest else self._new())
        self._go_on(moment)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, kind=st.sampled_from(BAD), moment=MOMENT)
    def drop_bad(self, index: int, kind: str, moment: tuple[int, int] = (0, 0)) -> None:
        COUNTS["bad files"] += 1
        self.seeds += 1
        self._write(index, bad(kind, self.seeds))
        self._go_on(moment)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, share=st.floats(0.1, 0.9), moment=MOMENT)
    def drop_slow(self, index: int, share: float, moment: tuple[int, int] = (0, 0)) -> None:
        """Write the beginning of a file in place."""
        COUNTS["slow files"] += 1
        data = self._new()
        there = int(len(data) * share)
        name = self._write(index, data[:there], in_place=True)
        self.growing[name] = (data, there)
        self._go_on(moment)

    @precondition(lambda self: self.growing and not self.is_away)
    @rule(share=st.sampled_from((0.0, 0.5, 1.0, 1.0)), which=st.integers(0, 9), moment=MOMENT)
    def grow(self, share: float, which: int, moment: tuple[int, int] = (0, 0)) -> None:
        """Append to an incomplete file, unless it was rejected meanwhile."""
        name = sorted(self.growing)[which % len(self.growing)]
        data, there = self.growing[name]
        more = max(1, int((len(data) - there) * share))
        path = self.layout.exports / name
        if not path.exists():
            del self.growing[name]
            return
        with path.open("ab") as file:
            file.write(data[there : there + more])
        there += more
        self._note_print(name, data[:there])
        self.growing[name] = (data, there)
        if there >= len(data):
            del self.growing[name]
            COUNTS["slow files finished"] += 1
        self._go_on(moment)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, moment=MOMENT)
    def overwrite_in_place(self, index: int, moment: tuple[int, int] = (0, 0)) -> None:
        name = f"rollout_{index}_20261121_120000.json"
        if (self.layout.exports / name).exists():
            COUNTS["overwritten in place"] += 1
            self._write(index, self._new(), in_place=True)
        self._go_on(moment)

    @precondition(lambda self: not self.is_away)
    @rule(index=NAMES, moment=MOMENT)
    def delete(self, index: int, moment: tuple[int, int] = (0, 0)) -> None:
        name = f"rollout_{index}_20261121_120000.json"
        if (self.layout.exports / name).exists():
            COUNTS["deleted"] += 1
            (self.layout.exports / name).unlink()
            self.prints.pop(name)
            self.growing.pop(name, None)
        self._go_on(moment)

    @rule(recreated=st.booleans(), moment=MOMENT)
    def rename_dir(self, recreated: bool, moment: tuple[int, int] = (0, 0)) -> None:
        """Rename Exports, with or without an empty folder in its place; the next call renames it back."""
        COUNTS["Exports moved"] += 1
        away = self.folder / "away"
        if self.is_away:
            shutil.rmtree(self.layout.exports, ignore_errors=True)
            away.rename(self.layout.exports)
        else:
            self.layout.exports.rename(away)
            if recreated:
                self.layout.exports.mkdir()
        self.is_away = not self.is_away
        self._go_on(moment)

    @invariant()
    def engine_read(self) -> None:
        """Load the model that the pointer file names, as an engine does: it must be whole and never older."""
        COUNTS["engine reads"] += 1
        try:
            named = self.layout.pointer.read_text("utf-8")
        except FileNotFoundError:
            assert self.version < 0, "the pointer is gone"
            return
        model = read_model(Path(named).read_bytes())
        check_probe(model)
        assert model.policy_version >= self.version, f"from version {self.version} back to {model.policy_version}"
        self.version = model.policy_version

    # The daemon

    @precondition(lambda self: self.site is None)
    @rule(moment=MOMENT)
    def start(self, moment: tuple[int, int] = (0, 0)) -> None:
        """Start the daemon; only a faulty disk may prevent it."""
        self.disk.is_dead = False
        is_hampered = self.disk.is_full or self.disk.denied or self.disk.fail_in is not None
        self.lock.acquire()
        try:
            self.site = MachineSite(self.folder, disk=self.disk, clock=self.clock, behaviour=self.behaviour)
        except (OSError, HotlapError):
            self.lock.release()
            assert is_hampered
            COUNTS["starts refused"] += 1
        except Killed:
            self.lock.release()
        else:
            COUNTS["starts"] += 1
        self._go_on(moment)

    @precondition(lambda self: self.site is not None)
    @rule(moment=MOMENT)
    def tick(self, moment: tuple[int, int]) -> None:
        self._go_on(moment)

    def _go_on(self, moment: tuple[int, int]) -> None:
        """Let the engine drop rollouts and the daemon make passes, if they can."""
        rollouts, passes = moment
        for _ in range(0 if self.is_away else rollouts):
            COUNTS["good files"] += 1
            self._write(self.seeds % 10, self._new())
        try:
            for _ in range(passes):
                if self.site is not None:
                    COUNTS["passes"] += 1
                    self.site.tick()
        except Killed:
            self._drop_daemon()

    @precondition(lambda self: self.site is not None)
    @rule()
    def crash(self) -> None:
        """Kill the daemon between two passes."""
        COUNTS["killed between passes"] += 1
        self.disk.is_dead = True
        self._drop_daemon()

    @precondition(lambda self: self.site is not None)
    @rule(operations=st.integers(1, 60), moment=MOMENT)
    def crash_soon(self, operations: int, moment: tuple[int, int] = (0, 0)) -> None:
        """Kill the daemon before one of the next operations of the disk."""
        COUNTS["kills armed"] += 1
        self.disk.kill_in = operations
        self._go_on(moment)

    @precondition(lambda self: self.site is not None)
    @rule()
    def stop(self) -> None:
        """End the daemon in order, as far as the disk allows."""
        assert self.site is not None
        COUNTS["stopped"] += 1
        with suppress(Killed):
            self.site.close()
        self._drop_daemon()

    def _drop_daemon(self) -> None:
        """Forget the daemon; only the disk may have made its passes fail."""
        assert self.site is not None
        failures = self.site.failures
        self.site.crash()
        self.site = None
        self.lock.release()
        for failure in failures:
            if not isinstance(failure, OSError | HotlapError | sqlite3.Error):
                raise failure

    @precondition(lambda self: self.site is not None)
    @rule(moment=MOMENT)
    def trigger(self, moment: tuple[int, int] = (0, 0)) -> None:
        assert self.site is not None
        COUNTS["triggers"] += 1
        self.site.service.trigger("trigger")
        self._go_on(moment)

    @rule(moment=MOMENT)
    def second_daemon(self, moment: tuple[int, int] = (0, 0)) -> None:
        """Start a second daemon: it is refused while this one lives, and not afterwards."""
        COUNTS["second daemons"] += 1
        second = ProjectLock(self.layout.lock, clock=self.clock)
        if self.site is None:
            second.acquire()
            second.release()
            return
        with pytest.raises(DaemonError, match=f"pid {os.getpid()}") as refused:
            second.acquire()
        assert refused.value.exit_code == Exit.OTHER_DAEMON
        self._go_on(moment)

    # Faults

    @rule(behaviour=st.sampled_from(BEHAVIOURS), moment=MOMENT)
    def trainer_outcome(self, behaviour: str, moment: tuple[int, int] = (0, 0)) -> None:
        """Set the behaviour of the next trainers."""
        COUNTS[f"trainer: {behaviour}"] += 1
        self.behaviour = behaviour
        if self.site is not None:
            self.site.launcher.behaviour = behaviour
        self._go_on(moment)

    @rule(full=st.booleans(), moment=MOMENT)
    def disk_full(self, full: bool, moment: tuple[int, int] = (0, 0)) -> None:
        self.disk.is_full = full
        self._go_on(moment)

    @rule(times=st.sampled_from((1, 3, 12, 40)), moment=MOMENT)
    def replace_denied(self, times: int, moment: tuple[int, int] = (0, 0)) -> None:
        self.disk.denied = times
        self._go_on(moment)

    @rule(operations=st.integers(1, 40), moment=MOMENT)
    def fail_soon(self, operations: int, moment: tuple[int, int] = (0, 0)) -> None:
        """Let one of the next operations of the disk fail."""
        self.disk.fail_in = operations
        self._go_on(moment)

    @rule(seconds=st.sampled_from((-3600.0, 3600.0, -3e8, 3e8, 90.0)), moment=MOMENT)
    def clock_jump(self, seconds: float, moment: tuple[int, int] = (0, 0)) -> None:
        COUNTS["clock jumps"] += 1
        self.clock.wall += seconds
        self._go_on(moment)

    @rule(seconds=st.sampled_from((10.0, 8 * 3600.0)), moment=MOMENT)
    def machine_sleeps(self, seconds: float, moment: tuple[int, int] = (0, 0)) -> None:
        COUNTS["sleeps"] += 1
        self.clock.pass_s(seconds)
        self._go_on(moment)

    # What must hold

    @invariant()
    def promises_hold(self) -> None:
        """Run the invariant checks that hold at any moment, and compare the ledger with the model."""
        if not self.layout.ledger.exists():
            return
        COUNTS["invariant checks"] += 1
        before = {} if self.is_away else self.prints
        broken = [v for v in check_invariants(self.folder, before=before) if v.invariant in AT_ANY_MOMENT]
        assert broken == [], self._describe(broken)
        self._count()

    def _count(self) -> None:
        facts = read_ledger(self.layout, daemon_runs=self.site is not None)
        now = {rollout.sha256: rollout.cycle_id for rollout in facts.rollouts}
        assert len(now) == len(facts.rollouts), "a content is in the ledger twice"
        assert now.keys() <= self.good, "something counts that is not a rollout"
        for sha256, cycle_id in self.counted.items():
            assert sha256 in now, f"{sha256[:12]} was accepted and is no longer in the ledger"
            assert cycle_id is None or now[sha256] == cycle_id, f"{sha256[:12]}: cycle {cycle_id}, then {now[sha256]}"
        self.counted = now

    def _describe(self, what: object) -> str:
        log = self.site.log.lines[-20:] if self.site is not None else []
        return "\n".join([str(what), *log])

    # The end

    def teardown(self) -> None:
        try:
            self._recovers()
        finally:
            if self.site is not None:
                self.site.crash()
                self.lock.release()
            self._stack.close()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        assert self.site is not None
        for _ in range(MAX_PASSES):
            self.site.tick()
            if condition():
                return
            cycle = self.site.runner.cycle
            is_waiting = cycle is not None and (
                cycle.phase is Phase.PARKED or (cycle.kind == "initial" and cycle.phase is Phase.FAILED)
            )
            if is_waiting and not self.site.service.is_triggered:
                self.site.service.trigger("drained")
        raise AssertionError(self._describe(f"did not happen: {what}"))

    def _recovers(self) -> None:
        """Check that without faults the next cycle is published, every rollout counts, and nothing is left behind."""
        self.disk.heal()
        self.trainer_outcome("ok")
        if self.is_away:
            self.rename_dir(False)
        if self.site is None:
            self.start()
        site = self.site
        assert site is not None, "it does not start"
        before = site.version
        for index in (100, 101):
            self._write(index, self._new())
        self._until(lambda: site.version > max(0, before) and not site.runner.busy, "another model is published")
        self._until(lambda: not self._left_over() & self.good and not site.runner.busy, "every rollout is accepted")
        self.promises_hold()
        self.engine_read()
        assert self.version == site.version
        self.stop()
        self.start()
        again = self.site
        assert again is not None, "it does not start again"
        self._until(
            lambda: not self._left_over(), "the other files are rejected"
        )  # a restart moves what could not be moved before
        self._until(lambda: not again.warnings() - {"W_REJECTED"}, "no warning is left")
        self.promises_hold()
        COUNTS["models published"] += again.version
        self.stop()
        found = check_invariants(self.folder, before=self.prints, litter_age_s=0.0)
        assert found == (), self._describe(found)

    def _left_over(self) -> set[str]:
        """Return the contents in Exports that neither count nor were rejected."""
        facts = read_ledger(self.layout, daemon_runs=True)
        known = {rollout.sha256 for rollout in facts.rollouts}
        return {
            known_print.sha256
            for name, known_print in self.prints.items()
            if name != "notes.txt" and (self.layout.exports / name).exists() and known_print.sha256 not in known
        }
