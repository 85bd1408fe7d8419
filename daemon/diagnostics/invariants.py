"""Invariant checks: whether a project folder keeps what Hotlap promises. They change nothing.

The checks may run at any time. While a daemon runs, a violation counts only if several consecutive checks find it,
because a publish may be between two of its steps. The daemon's own processes, and a rejected file whose reason is not
written yet, are then allowed. ENGINE_VIEW, COUNTED_ONCE, NOTHING_LOST and LEDGER are true even right after a kill,
before any restart. The next start removes leftover files and makes the other invariants true again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.diagnostics.engine_view import check_engine_files, check_pointer
from daemon.diagnostics.ledger_audit import FileFingerprint, LedgerContents, fingerprints_of, read_ledger
from daemon.diagnostics.leftovers import check_leftovers
from daemon.diagnostics.rollout_counts import check_counted_once, check_nothing_lost, check_user_files
from daemon.diagnostics.violation import Invariant, Violation
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.instance_lock import is_running
from daemon.runtime.state_folder import with_marked_state
from schemas.process.run_token import Token, find_processes, project_fingerprint, shares_pids
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import absolute_path

__all__ = ["FileFingerprint", "Invariant", "Violation", "check_invariants", "fingerprints_of"]

LITTER_AGE_S = 60.0
_CHECKS_WHILE_RUNNING, _BETWEEN_CHECKS_S = 4, 0.25


def check_invariants(
    folder: Path,
    *,
    before: Mapping[str, FileFingerprint] | None = None,
    engine_project: str = "",
    may_clear: bool = False,
    litter_age_s: float = LITTER_AGE_S,
) -> tuple[Violation, ...]:
    """Return the violations in a project folder; none if no daemon has run there yet.

    `before` contains the fingerprints (`fingerprints_of`) of files that were in Exports earlier. Each of them must be
    in Exports unchanged or in Rejected; with `may_clear`, a used one may also have been removed, as the settings allow.
    Temporary files of Hotlap are violations if they are older than `litter_age_s`. `engine_project` is the setting
    `daemon.engine_path`.
    """
    paths = with_marked_state(ProjectPaths(absolute_path(folder), engine_project))
    found = _check_once(paths, before, may_clear=may_clear, litter_age_s=litter_age_s)
    for _ in range(_CHECKS_WHILE_RUNNING - 1):
        if not found or not is_running(paths):
            break
        REAL_CLOCK.sleep(_BETWEEN_CHECKS_S)
        again = set(_check_once(paths, before, may_clear=may_clear, litter_age_s=litter_age_s))
        found = [violation for violation in found if violation in again]
    return tuple(dict.fromkeys(found))


def _check_once(
    paths: ProjectPaths, before: Mapping[str, FileFingerprint] | None, *, may_clear: bool, litter_age_s: float
) -> list[Violation]:
    daemon_runs = is_running(paths)
    found: list[Violation] = []
    ledger = LedgerContents()
    if paths.ledger.exists():
        ledger = read_ledger(paths)
        found += [Violation(Invariant.LEDGER, problem, paths.ledger) for problem in ledger.problems]
    elif paths.models.is_dir() and any(paths.models.glob("cycle_*")):
        found.append(Violation(Invariant.LEDGER, "it is missing, but models were published", paths.ledger))
    if not found:
        found += [*check_nothing_lost(paths, ledger), *check_counted_once(paths, ledger), *check_pointer(paths, ledger)]
    found += [*check_engine_files(paths, ledger), *check_user_files(paths, ledger, before or {}, may_clear=may_clear)]
    found += check_leftovers(paths, ledger, older_than_s=litter_age_s, daemon_runs=daemon_runs)
    found += _check_processes(paths, daemon_runs=daemon_runs)
    return found


def _check_processes(paths: ProjectPaths, *, daemon_runs: bool) -> Iterator[Violation]:
    """Check that no process of this project is left from a daemon that has ended.

    While a daemon runs, processes of other containers are not checked: their owner's pid is not valid here.
    """
    fingerprint = project_fingerprint(paths.project)

    def is_left(token: Token) -> bool:
        return token.project == fingerprint and not (daemon_runs and token.owner_lives())

    for process in find_processes(is_left):
        if daemon_runs and not shares_pids(process):
            continue
        text = f"process {process.pid} is still running, but the daemon that started it has ended"
        yield Violation(Invariant.NO_PROCESS, text, paths.project)
