"""What the invariant checks read: the ledger, which is not changed, and the fingerprints of files in Exports."""

from __future__ import annotations

import contextlib
import stat
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from daemon.errors import LedgerError
from daemon.ledger.cycle import RUNNING, Phase
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import FileSignature, Publication
from daemon.ledger.sqlite_errors import SQLITE_ERRORS, LedgerDamaged, to_ledger_error
from schemas.errors import HotlapError
from schemas.storage.files import read_with_retries, sha256_of
from schemas.storage.layout import ProjectPaths

_NO_LIMIT = 1 << 62  #: bytes


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


def read_ledger(paths: ProjectPaths) -> LedgerContents:
    """Return the content of the ledger without changing the file. `problems` describes the damage, if any."""
    contents = LedgerContents()
    try:
        with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger, ledger.snapshot():
            contents.problems += ledger.problems()
            if not contents.problems:
                _read_rows(ledger, contents)
    except LedgerError as error:
        contents.problems.append(error.message if isinstance(error, LedgerDamaged) else error.line())
    except SQLITE_ERRORS as error:
        contents.problems.append(to_ledger_error(error, paths.ledger).message)
    except OSError as error:
        contents.problems.append(f"it cannot be opened: {error.strerror or error}")
    return contents


def _read_rows(ledger: Ledger, contents: LedgerContents) -> None:
    """Read what the checks need of rows that were found to be sound."""
    for cycle_id, kind, phase, result in ledger.rows("cycle", "id", "kind", "phase", "result"):
        files = orjson.loads(result)["files"] if result else {}
        contents.cycles[cycle_id] = CycleRow(cycle_id, kind, phase, files)
    contents.rollouts = [
        RolloutRow(sha256, name, cycle_id, bool(suspect))
        for _, sha256, name, cycle_id, suspect in ledger.rows("rollout", "id", "sha256", "name", "cycle_id", "suspect")
    ]
    contents.files = ledger.files()
    contents.publications = ledger.publications()
    contents.rejected = {sha256 for _, sha256 in ledger.rows("rejection", "seq", "sha256") if sha256 is not None}
