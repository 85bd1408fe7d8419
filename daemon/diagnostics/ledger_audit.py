"""What the invariant checks read: the ledger, which is not changed, and the fingerprints of files in Exports."""

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

from daemon.ledger.connection import uri_of
from daemon.ledger.cycle import LEGAL_STEPS, RUNNING, Phase
from daemon.ledger.migrations import VERSION
from daemon.ledger.records import FileSignature, Publication
from schemas.errors import HotlapError
from schemas.storage.files import read_with_retries, sha256_of
from schemas.storage.layout import ProjectPaths

_NO_LIMIT = 1 << 62  #: bytes
_ALLOWED_STEPS = {(src.value, dst.value) for src, dst in LEGAL_STEPS}


@dataclass(frozen=True, slots=True)
class FileFingerprint:
    """A file's hash and time of change, to find out later whether it was changed."""

    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class CycleRow:
    """A cycle in the ledger."""

    id: int
    kind: str
    phase: str
    result_files: dict[str, str]  #: name -> SHA-256 of the files that its trainer wrote


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A rollout in the ledger."""

    sha256: str
    name: str
    cycle_id: int | None
    is_suspect: bool = False  #: a cycle failed because of it, so no cycle trains on it any more


@dataclass(slots=True)
class LedgerContents:
    """The content of the ledger, and the problems that were found in it."""

    cycles: dict[int, CycleRow] = field(default_factory=dict)
    rollouts: list[RolloutRow] = field(default_factory=list)
    files: dict[str, tuple[FileSignature, str]] = field(default_factory=dict)
    publications: list[Publication] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)  #: SHA-256 of the files that could not be used
    problems: list[str] = field(default_factory=list)

    def is_open(self, cycle_id: int | None) -> bool:
        """Return whether the rollouts of this cycle (None: pending ones) may still have to be trained on."""
        cycle = self.cycles.get(cycle_id) if cycle_id is not None else None
        return cycle is None or cycle.phase == Phase.PARKED or cycle.phase in {phase.value for phase in RUNNING}


def fingerprints_of(exports: Path) -> dict[str, FileFingerprint]:
    """Return the fingerprints of the regular files in a folder."""
    found = {}
    for path in exports.iterdir():
        with contextlib.suppress(FileNotFoundError):  # an engine may rename its temporary files now
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                found[path.name] = FileFingerprint(
                    sha256_of(read_with_retries(path, limit=_NO_LIMIT)), info.st_mtime_ns
                )
    return found


def sha256_at(path: Path) -> str | None:
    """Return the hash of a regular file, or None if it cannot be read."""
    try:
        return sha256_of(read_with_retries(path, limit=_NO_LIMIT))
    except (OSError, HotlapError):
        return None


def read_ledger(paths: ProjectPaths, *, daemon_runs: bool) -> LedgerContents:
    """Return the content of the ledger without changing the file. `problems` describes the damage, if any."""
    contents = LedgerContents()
    try:
        with _open_read_only(paths.ledger, daemon_runs=daemon_runs) as db:
            _check_database(db, contents)
            if not contents.problems:
                db.execute("BEGIN")  # so that all reads that follow return the same state
                _read_rows(db, contents)
                _check_phases(db, contents)
    except (sqlite3.Error, orjson.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        contents.problems.append(f"it cannot be read: {error}")
    except OSError as error:
        contents.problems.append(f"it cannot be opened: {error.strerror or error}")
    return contents


@contextlib.contextmanager
def _open_read_only(path: Path, *, daemon_runs: bool) -> Iterator[sqlite3.Connection]:
    """Open the ledger without write access. An open transaction of a killed daemon is rolled back in a copy."""
    journal = path.with_name(f"{path.name}-journal")
    with contextlib.ExitStack() as stack:
        uri = uri_of(path, "ro")
        if not daemon_runs and journal.exists():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotlap-audit-")))
            with contextlib.suppress(FileNotFoundError):  # a daemon that has just started has rolled it back
                for source in (journal, path):
                    shutil.copyfile(source, folder / source.name)
                uri = uri_of(folder / path.name, "rw")
        db = sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None)
        stack.callback(db.close)
        db.row_factory = sqlite3.Row
        yield db


def _check_database(db: sqlite3.Connection, ledger: LedgerContents) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        ledger.problems.append("it is empty")
        return
    if version > VERSION:
        ledger.problems.append(f"a newer Hotlap wrote it (ledger version {version})")
        return
    result = str(db.execute("PRAGMA quick_check").fetchone()[0])
    if result != "ok":
        ledger.problems.append(f"it is damaged: {result}")
    elif db.execute("PRAGMA foreign_key_check").fetchone() is not None:
        ledger.problems.append("a row names another row that does not exist")


def _read_rows(db: sqlite3.Connection, ledger: LedgerContents) -> None:
    for row in db.execute("SELECT id, kind, phase, result FROM cycle ORDER BY id"):
        result = orjson.loads(row["result"])["files"] if row["result"] else {}
        ledger.cycles[row["id"]] = CycleRow(row["id"], row["kind"], row["phase"], dict(result))
    ledger.rollouts = [
        RolloutRow(row["sha256"], row["name"], row["cycle_id"], bool(dict(row).get("suspect")))
        for row in db.execute("SELECT * FROM rollout ORDER BY id")  # an older ledger does not have all columns
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


def _check_phases(db: sqlite3.Connection, ledger: LedgerContents) -> None:
    """Check that every phase exists and, if its steps are recorded, was reached by allowed steps."""
    phase_of: dict[int, str] = {}
    for cycle_id, src, dst in db.execute("SELECT cycle_id, src, dst FROM step ORDER BY seq"):
        before = phase_of.get(cycle_id, Phase.CLAIMED)
        if (src, dst) not in _ALLOWED_STEPS or src != before:
            ledger.problems.append(f"cycle {cycle_id} went from {before} to {dst}, recorded as a step from {src}")
        phase_of[cycle_id] = dst
    for cycle in ledger.cycles.values():
        if cycle.phase not in {phase.value for phase in Phase}:
            ledger.problems.append(f"cycle {cycle.id} is {cycle.phase!r}, which is not a phase")
        elif phase_of.get(cycle.id, cycle.phase) != cycle.phase:
            ledger.problems.append(f"cycle {cycle.id} is {cycle.phase}, but its last step led to {phase_of[cycle.id]}")
    running = [cycle.id for cycle in ledger.cycles.values() if cycle.phase in {phase.value for phase in RUNNING}]
    if len(running) > 1:
        ledger.problems.append(f"several cycles run at once: {running}")
    published = {publication.cycle_id for publication in ledger.publications}
    for cycle in ledger.cycles.values():
        if (cycle.phase == Phase.PUBLISHED) != (cycle.id in published):
            has = "has a" if cycle.id in published else "has no"
            ledger.problems.append(f"cycle {cycle.id} is {cycle.phase}, but {has} publication")
