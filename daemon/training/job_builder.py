"""Builds a trainer's job: rollouts, parent policy, and the models that may have generated each rollout."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Collection, Sequence
from pathlib import Path

from daemon.ledger.cycle import Cycle
from daemon.ledger.records import Publication, UsedRollout
from daemon.publishing.adoption import hidden_sizes_of
from daemon.runtime.context import Context
from schemas.contract import PolicyContract
from schemas.job import Job, JobKind, RolloutInput

CANDIDATES = 3
"""How many models are candidates for a rollout: the newest at the file's time, and those before it."""
MAX_PUBLICATIONS = 256
"""How many of the newest publications are searched for behaviour policies; older models are removed anyway."""
MAX_OLD_ROLLOUTS = 2000


def behaviour_candidates(
    publications: Sequence[Publication], *, written_s: float, policy_version: int | None
) -> tuple[str, ...]:
    """Return the models that may have generated a rollout, relative to Models, the most probable first.

    `publications` are in order of time. First is the version that the engine wrote into the rollout, then the newest
    version that was published when the file was written, then the versions before it.
    """
    newest = max(1, bisect_right(publications, written_s, key=lambda p: p.at_s))
    before = publications[max(0, newest - CANDIDATES) : newest]
    named = [p for p in publications if p.policy_version == policy_version] if policy_version is not None else []
    ordered = dict.fromkeys(p.model for p in (*reversed(named), *reversed(before)))
    return tuple(ordered)[:CANDIDATES]


def project_contract(context: Context) -> PolicyContract:
    """Return the contract of the next model: that of the rollouts, or before the first rollout that of the settings."""
    return context.contract or context.settings.agent.contract()


def parent_checkpoint(context: Context) -> tuple[str, str] | None:
    """Return the path and SHA-256 of the last published model's checkpoint, or None if it does not exist."""
    last = context.ledger.last_publication()
    if last is None:
        return None
    result = context.ledger.result(last.cycle_id)
    path = context.paths.models / last.model.removesuffix(".json")
    checkpoint = path.with_suffix(".pt")
    if result is None or checkpoint.name not in result.files:
        return None
    return str(checkpoint), result.files[checkpoint.name]


def make_job(context: Context, cycle: Cycle, *, kind: JobKind, output: Path) -> Job:
    """Return the job for a cycle's next trainer."""
    is_first = kind in {"initial", "adopt"}
    job = _job(
        context,
        kind=kind,
        policy_version=cycle.policy_version,
        output=str(output),
        rollouts=() if is_first else rollout_inputs(context, cycle.id),
        parent=None if is_first else parent_checkpoint(context),
    )
    return job.model_copy(update={"adoption": context.ledger.adoption(cycle.id)}) if kind == "adopt" else job


def expected_job(context: Context, known: Collection[str]) -> Job:
    """Return a preview of the next job for the warm trainer, without the rollouts whose hashes are in `known`."""
    new = [used for used in context.ledger.pending_rollouts() if used.row.sha256 not in known]
    return _job(
        context,
        kind="prefetch",
        policy_version=context.ledger.last_cycle_id() + 1,
        output="",
        rollouts=_inputs(context, new, None),
        parent=parent_checkpoint(context),
    )


def _job(
    context: Context,
    *,
    kind: JobKind,
    policy_version: int,
    output: str,
    rollouts: tuple[RolloutInput, ...],
    parent: tuple[str, str] | None,
) -> Job:
    path, sha256 = parent or (None, None)
    return Job(
        kind=kind,
        policy_version=policy_version,
        output=output,
        contract=project_contract(context),
        hidden_sizes=hidden_sizes_of(context),
        settings=context.settings.trainer,
        rollouts=rollouts,
        parent=path,
        parent_sha256=sha256,
        use_epoch=context.settings.daemon.auto_load_model_epoch,
    )


def rollout_inputs(context: Context, cycle_id: int) -> tuple[RolloutInput, ...]:
    """Return the rollouts that a cycle may train on: those that it claimed, and older ones whose files still exist."""
    new = context.ledger.rollouts_of(cycle_id)
    old = context.ledger.older_rollouts(cycle_id)[-MAX_OLD_ROLLOUTS:]
    return _inputs(context, (*new, *old), cycle_id)


def _inputs(context: Context, rollouts: Sequence[UsedRollout], cycle_id: int | None) -> tuple[RolloutInput, ...]:
    """Return the inputs for rollouts of a cycle, or of the next one if `cycle_id` is None.

    Paths are joined as text, which is faster for thousands of rollouts.
    """
    publications = context.ledger.publications(MAX_PUBLICATIONS)
    paths = context.paths
    exports, models, cache = (f"{folder}{os.sep}" for folder in (paths.exports, paths.models, paths.cache))

    def to_input(used: UsedRollout) -> RolloutInput:
        row = used.row
        candidates = behaviour_candidates(publications, written_s=row.written_s, policy_version=row.policy_version)
        return RolloutInput(
            name=row.name,
            sha256=row.sha256,
            source=exports + row.name,
            cache=cache + paths.cache_name(row.sha256),
            is_new=used.cycle_id == cycle_id,
            behaviours=tuple(models + model for model in candidates),
            age=0 if cycle_id is None else max(0, cycle_id - (used.cycle_id or cycle_id)),
        )

    return tuple(map(to_input, rollouts))
