"""Builds a trainer's job: rollouts, parent policy, and the models that may have generated each rollout."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from daemon.ledger.cycle import Cycle
from daemon.ledger.records import UsedRollout
from daemon.publishing.adoption import hidden_sizes_of
from daemon.publishing.behaviour_candidates import FEW_CANDIDATES, MAX_CANDIDATES, CandidateFinder
from daemon.rollouts.reports.file_clock import stored_clock_offset_s
from daemon.runtime.context import Context
from daemon.training.recovery.parents import ParentChoice, parent_of, usual_parent
from schemas.contract import PolicyContract
from schemas.job import Job, JobKind, RolloutInput

MAX_PUBLICATIONS = 64
"""How many of the newest publications are searched for behaviour policies; retention removes most older models."""
MANY_ROLLOUTS = 256
"""If more rollouts than this are new, each has only a few candidates, so that the job stays small."""
MAX_OLD_ROLLOUTS = 2000


def project_contract(context: Context) -> PolicyContract:
    """Return the contract of the next model: the project's, or else most rollouts', or else that of the settings."""
    return context.contract or context.likely_contract or context.settings.agent.contract()


def make_job(context: Context, cycle: Cycle, *, kind: JobKind, output: Path) -> Job:
    """Return the job for a cycle's next trainer."""
    is_first = kind in {"initial", "adopt"}
    job = _job(
        context,
        kind=kind,
        policy_version=cycle.policy_version,
        output=str(output),
        rollouts=() if is_first else rollout_inputs(context, cycle.id),
        parent=ParentChoice() if is_first else parent_of(context, cycle),
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
        parent=usual_parent(context),
    )


def _job(
    context: Context,
    *,
    kind: JobKind,
    policy_version: int,
    output: str,
    rollouts: tuple[RolloutInput, ...],
    parent: ParentChoice,
) -> Job:
    path, sha256 = parent.checkpoint or (None, None)
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
        fresh_statistics=parent.fresh_statistics,
        choice_names=context.settings.agent.choice_names,
        observation_limit=context.settings.agent.observation_limit,
        mirror=context.settings.agent.declared_mirror,
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
    paths = context.paths
    publications = context.ledger.publications(MAX_PUBLICATIONS)
    existing = [p for p in publications if (paths.models / p.model).exists()]
    finder = CandidateFinder(existing, clock_offset_s=stored_clock_offset_s(context.ledger))
    limit = MAX_CANDIDATES if sum(used.cycle_id == cycle_id for used in rollouts) <= MANY_ROLLOUTS else FEW_CANDIDATES
    exports, models, cache = (f"{folder}{os.sep}" for folder in (paths.exports, paths.models, paths.cache))

    def to_input(used: UsedRollout) -> RolloutInput:
        row, is_new = used.row, used.cycle_id == cycle_id
        candidates = finder.candidates_of(used, limit=limit if is_new else FEW_CANDIDATES)
        return RolloutInput(
            name=row.name,
            sha256=row.sha256,
            source=exports + row.name,
            cache=cache + paths.cache_name(row.sha256),
            is_new=is_new,
            behaviours=tuple(models + model for model in candidates.models),
            outdated=candidates.outdated,
            is_older_than_models=candidates.is_older_than_models,
            repeated=row.repeated,
            age=0 if cycle_id is None else max(0, cycle_id - (used.cycle_id or cycle_id)),
        )

    return tuple(map(to_input, rollouts))
