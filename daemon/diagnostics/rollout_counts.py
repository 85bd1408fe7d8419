"""Invariant checks of rollouts: none is lost, none counts twice, and none is changed in Exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from daemon.diagnostics.engine_view import model_at
from daemon.diagnostics.ledger_audit import FileFingerprint, LedgerContents, RolloutRow, fingerprints_of, sha256_at
from daemon.diagnostics.violation import Invariant, Violation
from daemon.ledger.records import FileSignature, Publication
from schemas.rollout.cache import load_rollout
from schemas.storage.layout import ProjectPaths, is_rollout_name
from schemas.storage.windows_paths import for_system


def check_nothing_lost(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """Check that every rollout that still has to be trained on has its file or its arrays."""
    names: dict[str, list[str]] = {}
    for name, (_, sha256) in ledger.files.items():
        names.setdefault(sha256, []).append(name)
    for rollout in ledger.rollouts:
        if rollout.cycle_id is not None and rollout.cycle_id not in ledger.cycles:
            text = f"{rollout.name} counted toward cycle {rollout.cycle_id}, which does not exist"
            yield Violation(Invariant.NOTHING_LOST, text, paths.ledger)
        elif rollout.is_suspect:
            continue
        elif ledger.is_open(rollout.cycle_id) and not _has_data(paths, ledger, rollout, names.get(rollout.sha256, [])):
            text = f"{rollout.name} has not been trained on yet, but its file and its arrays are missing"
            yield Violation(Invariant.NOTHING_LOST, text, paths.exports / rollout.name)


def _has_data(paths: ProjectPaths, ledger: LedgerContents, rollout: RolloutRow, names: list[str]) -> bool:
    for name in names:
        path = for_system(paths.exports / name)
        try:
            unchanged = FileSignature.of(path.lstat()) == ledger.files[name][0]
        except OSError:
            continue
        if unchanged or sha256_at(path) == rollout.sha256:
            return True
    return load_rollout(paths.cached_rollout(rollout.sha256)) is not None


def check_counted_once(paths: ProjectPaths, ledger: LedgerContents) -> Iterator[Violation]:
    """Check that no rollout counts in two cycles.

    The ledger refuses a second row for a rollout. The lineage of the published models is compared with its rows,
    because it does not depend on the ledger.
    """
    counted = {rollout.sha256: rollout.cycle_id for rollout in ledger.rollouts}
    first_cycles: dict[str, int] = {}
    first_models: dict[int, Publication] = {}
    for publication in ledger.publications:
        first_models.setdefault(publication.cycle_id, publication)
    for cycle_id, publication in sorted(first_models.items()):
        path = paths.models / publication.model
        model = model_at(path)
        for sha256 in model.lineage.rollouts if model else ():
            earlier = first_cycles.setdefault(sha256, cycle_id)
            if earlier != cycle_id:
                text = f"the rollout {sha256[:12]} counted in cycle {earlier} and in cycle {cycle_id}"
                yield Violation(Invariant.COUNTED_ONCE, text, path)
            recorded = counted.get(sha256, cycle_id)
            if recorded != cycle_id:
                text = f"the rollout {sha256[:12]} was new in cycle {cycle_id}, but the ledger has it in {recorded}"
                yield Violation(Invariant.COUNTED_ONCE, text, path)


def check_user_files(
    paths: ProjectPaths, ledger: LedgerContents, before: Mapping[str, FileFingerprint], *, may_clear: bool
) -> Iterator[Violation]:
    """Check that the files that were in Exports are unchanged, in Rejected, or removed as the settings allow."""
    if not before:
        return
    now = fingerprints_of(paths.exports) if paths.exports.is_dir() else {}
    rejected = {sha256_at(path) for path in paths.rejected.iterdir()} if paths.rejected.is_dir() else set()
    done = {rollout.sha256 for rollout in ledger.rollouts if not ledger.is_open(rollout.cycle_id)}
    for name, known in before.items():
        path = paths.exports / name
        if name in now and now[name] != known:
            yield Violation(Invariant.USER_FILES, f"{name} was changed", path)
        elif name not in now and not (known.sha256 in rejected or (may_clear and known.sha256 in done)):
            is_rollout = is_rollout_name(name)
            yield Violation(Invariant.NOTHING_LOST if is_rollout else Invariant.USER_FILES, f"{name} is missing", path)
