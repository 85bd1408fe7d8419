"""Invariant checks of files: temporary files are removed, and every rejected file has its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.diagnostics.ledger_audit import LedgerContents
from daemon.diagnostics.violation import Invariant, Violation
from daemon.ledger.cycle import Phase
from daemon.runtime.clock import REAL_CLOCK
from schemas.storage.files import TEMPORARY_NAME
from schemas.storage.layout import ProjectPaths

_WORKING_FOLDER = re.compile(r"(?:removed_)?cycle_([0-9]{6,9})")


def check_leftovers(
    paths: ProjectPaths, ledger: LedgerContents, *, older_than_s: float, daemon_runs: bool
) -> Iterator[Violation]:
    """Check that no temporary file, staging folder or rejected file without a reason is older than `older_than_s`."""

    def is_old(path: Path) -> bool:
        try:
            return REAL_CLOCK.utc_s() - path.lstat().st_mtime >= older_than_s
        except OSError:
            return False

    for folder in (paths.training, *(f for f in paths.folders() if f != paths.exports)):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_own = TEMPORARY_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
            if is_own and is_old(path):
                yield Violation(Invariant.NO_LITTER, "a temporary file was not removed", path)
    yield from _check_staging(paths, ledger, is_old)
    if not daemon_runs:
        yield from _check_rejected(paths, is_old)


def _check_staging(paths: ProjectPaths, ledger: LedgerContents, is_old: Callable[[Path], bool]) -> Iterator[Violation]:
    open_cycles = {f"cycle_{c.id:06d}" for c in ledger.cycles.values() if ledger.is_open(c.id)}
    if ledger.cycles and paths.staging.is_dir():
        for path in sorted(paths.staging.iterdir()):
            is_needed = path.name in open_cycles or _just_failed(ledger, path)
            match = _WORKING_FOLDER.fullmatch(path.name)
            is_own = match is not None and path.is_dir() and int(match.group(1)) <= max(ledger.cycles)
            if is_own and not is_needed and is_old(path):
                yield Violation(Invariant.NO_LITTER, "a trainer's working folder was not removed", path)


def _just_failed(ledger: LedgerContents, staging: Path) -> bool:
    """Return whether it is the staging folder of the last cycle, which failed: users may inspect its files."""
    ended = [cycle for cycle in ledger.cycles.values() if not ledger.is_open(cycle.id)]
    return bool(ended) and ended[-1].phase == Phase.FAILED and staging.name == f"cycle_{ended[-1].id:06d}"


def _check_rejected(paths: ProjectPaths, is_old: Callable[[Path], bool]) -> Iterator[Violation]:
    names = {path.name for path in paths.rejected.iterdir()} if paths.rejected.is_dir() else set()
    for name in sorted(names):
        is_explained = name.endswith(".reason.txt") or f"{name}.reason.txt" in names
        path = paths.rejected / name
        if not is_explained and not TEMPORARY_NAME.fullmatch(name) and is_old(path):
            yield Violation(Invariant.NO_LITTER, "a rejected file has no .reason.txt", path)
