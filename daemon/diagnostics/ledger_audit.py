"""What the oracle goes by: the ledger read without changing a byte, and the prints of the files in Exports."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from daemon.ledger.cycle import LEGAL_STEPS, RUNNING, Phase
from daemon.ledger.migrations import VERSION
from daemon.ledger.records import FileSignature, Publication
from schemas.errors import HotlapError
from schemas.storage.files import read_regular, sha256_of
from schemas.storage.layout import ProjectPaths

_NO_LIMIT = 1 << 62
_LEGAL = {(src.value, dst.value) for src, dst in LEGAL_STEPS}


@dataclass(frozen=True, slots=True)
class FilePrint:
    """What tells whether somebody touched a file."""

    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class CycleFact:
    """A cycle as the ledger has it."""

    id: int
    kind: str
    phase: str
    result_files: dict[str, str]  #: name -> SHA-256, of what its trainer left


@dataclass(frozen=True, slots=True)
class RolloutFact:
    """A rollout as the ledger has it."""

    sha256: str
    name: str
    cycle_id: int | None


@dataclass(slots=True)
class LedgerContents:
    """All that the ledger says, and what is wrong with it."""

    cycles: dict[int, CycleFact] = field(default_factory=dict)
    rollouts: list[RolloutFact] = field(default_factory=list)
    files: dict[str, tuple[FileSignature, str]] = field(default_factory=dict)
    publications: list[Publication] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)  #: SHA-256 of the files that could not be used
    problems: list[str] = field(default_factory=list)

    def is_open(self, cycle_id: int | None) -> bool:
        """Return whether a rollout of this cycle may still have to be trained on."""
        cycle = self.cycles.get(cycle_id) if cycle_id is not None else None
        return cycle is None or cycle.phase == Phase.PARKED or cycle.phase in {phase.value for phase in RUNNING}


def prints_of(exports: Path) -> dict[str, FilePrint]:
    """Return the prints of the regular files in a folder, to be compared with later."""
    found = {}
    for path in exports.iterdir():
        with contextlib.suppress(FileNotFoundError):  # an engine renames its temporary files meanwhile
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                found[path.name] = FilePrint(sha256_of(read_regular(path, limit=_NO_LIMIT)), info.st_mtime_ns)
    return found


def sha256_at(path: Path) -> str | None:
    """Return the hash of a regular file; None where there is none to read."""
    try:
        return sha256_of(read_regular(path, limit=_NO_LIMIT))
    except (OSError, HotlapError):
        return None


def read_ledger(paths: ProjectPaths, *, daemon_runs: bool) -> LedgerContents:
    """Read the ledger without touching it. What is wrong with it is in `problems`; never raises for it."""
    facts = LedgerContents()
    try:
        with _opened(paths.ledger, daemon_runs=daemon_runs) as db:
            _judge(db, facts)
            if not facts.problems:
                db.execute("BEGIN")  # one moment for all that follows
                _collect(db, facts)
                _judge_steps(db, facts)
    except (sqlite3.Error, orjson.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        facts.problems.append(f"it cannot be read: {error}")
    except OSError as error:
        facts.problems.append(f"it cannot be opened: {error.strerror or error}")
    return facts


@contextlib.contextmanager
def _opened(path: Path, *, daemon_runs: bool) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write. What a killed daemon left half done is rolled back in a copy."""
    journal = path.with_name(f"{path.name}-journal")
    with contextlib.ExitStack() as stack:
        target, mode = path.absolute(), "ro"
        if not daemon_runs and journal.exists():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotlap-oracle-")))
            with contextlib.suppress(FileNotFoundError):  # a daemon that started just now has rolled it back
                for source in (journal, path):
                    shutil.copyfile(source, folder / source.name)
                target, mode = folder / path.name, "rw"
        db = sqlite3.connect(f"{target.as_uri()}?mode={mode}", uri=True, timeout=10.0, isolation_level=None)
        stack.callback(db.close)
        db.row_factory = sqlite3.Row
        yield db


def _judge(db: sqlite3.Connection, ledger: LedgerContents) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        ledger.problems.append("it is empty")
        return
    if version > VERSION:
        ledger.problems.append(f"it is of a newer Hotlap (version {version})")
        return
    answer = str(db.execute("PRAGMA quick_check").fetchone()[0])
    if answer != "ok":
        ledger.problems.append(f"it is damaged: {answer}")
    elif db.execute("PRAGMA foreign_key_check").fetchone() is not None:
        ledger.problems.append("a row names another that is not there")


def _collect(db: sqlite3.Connection, ledger: LedgerContents) -> None:
    for row in db.execute("SELECT id, kind, phase, result FROM cycle ORDER BY id"):
        result = orjson.loads(row["result"])["files"] if row["result"] else {}
        ledger.cycles[row["id"]] = CycleFact(row["id"], row["kind"], row["phase"], dict(result))
    ledger.rollouts = [
        RolloutFact(row["sha256"], row["name"], row["cycle_id"])
        for row in db.execute("SELECT sha256, name, cycle_id FROM rollout ORDER BY id")
    ]
    ledger.files = {
        row["name"]: (FileSignature(row["size"], row["mtime_ns"], row["inode"]), row["sha256"])
        for row in db.execute("SELECT name, size, mtime_ns, inode, sha256 FROM file")
    }
    ledger.publications = [
        Publication(row["cycle_id"], row["policy_version"], row["epoch"], row["model"], row["sha256"], row["at_s"])
        for row in db.execute("SELECT * FROM publication ORDER BY seq")
    ]
    ledger.rejected = {row[0] for row in db.execute("SELECT sha256 FROM rejection WHERE sha256 IS NOT NULL")}


def _judge_steps(db: sqlite3.Connection, ledger: LedgerContents) -> None:
    """Every phase is a known one, and was reached by legal steps where steps are noted."""
    at: dict[int, str] = {}
    for cycle_id, src, dst in db.execute("SELECT cycle_id, src, dst FROM step ORDER BY seq"):
        before = at.get(cycle_id, Phase.CLAIMED)
        if (src, dst) not in _LEGAL or src != before:
            ledger.problems.append(f"cycle {cycle_id} went from {before} to {dst} as if from {src}")
        at[cycle_id] = dst
    for cycle in ledger.cycles.values():
        if cycle.phase not in {phase.value for phase in Phase}:
            ledger.problems.append(f"cycle {cycle.id} is {cycle.phase!r}, which is no phase")
        elif at.get(cycle.id, cycle.phase) != cycle.phase:
            ledger.problems.append(f"cycle {cycle.id} is {cycle.phase}, its last step led to {at[cycle.id]}")
    running = [cycle.id for cycle in ledger.cycles.values() if cycle.phase in {phase.value for phase in RUNNING}]
    if len(running) > 1:
        ledger.problems.append(f"cycles {running} run at once")
    published = {publication.cycle_id for publication in ledger.publications}
    for cycle in ledger.cycles.values():
        if (cycle.phase == Phase.PUBLISHED) != (cycle.id in published):
            ledger.problems.append(f"cycle {cycle.id} is {cycle.phase}, its publication says otherwise")
