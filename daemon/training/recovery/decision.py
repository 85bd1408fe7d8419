"""Decides how a cycle continues after a failed attempt whose cause can be removed: suspect rollouts, or the parent."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.ledger.cycle import CauseRemoved, Failed, Phase
from daemon.ledger.rows import SUSPECT
from daemon.runtime.context import Context
from daemon.training.active_cycle import ActiveCycle
from daemon.training.recovery.memory import giant_rollout
from daemon.training.recovery.parents import as_meta, next_step, return_to_usual, stored_name
from schemas.job import ExitCode, Suspect
from schemas.text import printable

_WITHOUT = "trained again without "
_FROM = "trained again from "
_MOST_REMOVALS = 2
"""How often one cycle is tried again without suspect rollouts."""
_NAMED = 3
_RUNNING = frozenset({Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING})
_MEMORY_REMEDY = "write fewer experiences in a file, or use more memory"
_DATA_REMEDY = "correct what writes it"
_HOW_BACK = (
    "To use it all the same, move it back to Exports: with other values it counts as a new rollout, unchanged it is "
    "used like a rollout of an earlier cycle"
)


def remove_cause(context: Context, active: ActiveCycle, failed: Failed) -> bool:
    """Let a cycle whose attempt failed continue without what caused it; return False if that is not known.

    Rollouts are marked and the cycle is moved in one transaction. The inbox then moves their files to Rejected.
    """
    is_own = active.cycle.job_kind == "train" and not context.settings.daemon.training_script
    if not is_own or active.phase not in _RUNNING:
        return False
    return _without_suspects(context, active, failed) or _with_older_parent(context, active, failed)


def _without_suspects(context: Context, active: ActiveCycle, failed: Failed) -> bool:
    ledger, cycle_id = context.ledger, active.cycle.id
    if ledger.count_steps(cycle_id, why=_WITHOUT) >= _MOST_REMOVALS:
        return False
    new, old = ledger.rollouts_of(cycle_id), ledger.older_rollouts(cycle_id)
    usable = {used.row.sha256: used.row.name for used in (*new, *old)}
    remedy, found = _DATA_REMEDY, failed.suspects
    if failed.is_memory and not active.will_retry(failed) and (giant := giant_rollout(new)) is not None:
        remedy, found = _MEMORY_REMEDY, (giant,)
    suspects = [
        Suspect(sha256=s.sha256, name=usable[s.sha256], reason=_reason(s, cycle_id, remedy))
        for s in found
        if s.sha256 in usable
    ]
    if not suspects:
        return False
    hashes = {suspect.sha256 for suspect in suspects}
    has_rest = any(used.row.sha256 not in hashes for used in new or old)
    again = f"{_WITHOUT}{_names(suspects)}"
    active.mark_suspects(suspects, CauseRemoved(f"{again}: {failed.why}" if has_rest else failed.why, has_rest))
    if has_rest:
        context.log.warning(f"cycle {cycle_id}: {failed.why}; it is {again}")
    else:
        log = context.paths.cycle_log(cycle_id).name
        text = f"cycle {cycle_id} failed because of all its rollouts: {failed.why} (log: Logs/{log})"
        context.warn("W_CYCLE_FAILED", text)
    return True


def _with_older_parent(context: Context, active: ActiveCycle, failed: Failed) -> bool:
    if active.will_retry(failed) or not (failed.blames_parent or _fails_again(context, active, failed)):
        return False
    found = next_step(context, active.cycle, may_forget=failed.blames_parent)
    if found is None:
        return_to_usual(context, active.cycle)
        return False
    back, choice = found
    last = context.ledger.last_publication()
    usual = f"version {last.policy_version}" if last is not None else "the last version"
    words = choice.in_words()
    removed = CauseRemoved(f"{_FROM}{words}: {failed.why}")
    active.change_parent(stored_name(context, choice), removed, meta=as_meta(back))
    text = f"cycle {active.cycle.id} cannot be trained from {usual} ({failed.why}): it continues from {words}"
    context.warn("W_OLDER_PARENT", text)
    return True


def _fails_again(context: Context, active: ActiveCycle, failed: Failed) -> bool:
    """Return whether the trainer crashed repeatedly, or also in the cycle before, with the same parent."""
    ledger, cycle_id = context.ledger, active.cycle.id
    if not failed.is_crash or failed.is_setup or failed.code == ExitCode.BAD_CONFIG:
        return False
    if active.cycle.attempt > 1 or ledger.count_steps(cycle_id, why=_FROM):
        return True
    before = ledger.failed_before(cycle_id)
    return before is not None and ledger.parent(before) == ledger.parent(cycle_id)


def _reason(suspect: Suspect, cycle_id: int, remedy: str) -> str:
    return printable(f"cycle {cycle_id} failed because of it: {suspect.reason} -> {remedy}. {_HOW_BACK} [{SUSPECT}]")


def _names(suspects: Sequence[Suspect]) -> str:
    more = len(suspects) - _NAMED
    return ", ".join(printable(s.name) for s in suspects[:_NAMED]) + (f" and {more} more" if more > 0 else "")
