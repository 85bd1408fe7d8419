"""Log lines and warnings about a cycle and its trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.ledger.cycle import Cycle, Phase
from daemon.ledger.records import Publication
from daemon.runtime.context import Context, LogLike
from schemas.job import Adoption, Job, Result
from schemas.storage.windows_paths import error_text


def log_trainer_start(log: LogLike, job: Job) -> None:
    """Log the start of a trainer and its job."""
    if job.kind == "initial":
        log.info(
            f"creating the initial model (version 0): {job.contract.observation_size} observations, "
            f"{job.contract.action_space.in_words()}"
        )
    elif job.adoption is not None:
        log.info(f"adopting {job.adoption.origin}")
    elif job.kind == "train":
        new = sum(rollout.is_new for rollout in job.rollouts)
        log.info(
            f"[2/5] training: {new} new rollouts, {len(job.rollouts) - new} older ones available, "
            f"{job.settings.epochs} epochs"
        )


def log_script_start(log: LogLike, script: Path, epochs: int) -> None:
    """Log the start of a user's training script."""
    log.info(f"[2/5] training with {script.name}: {epochs} epochs")


def log_publication(log: LogLike, publication: Publication, result: Result, adoption: Adoption | None) -> None:
    """Log which model was published."""
    if adoption is not None:
        for note in result.notes:
            log.info(note)
        version, origin = publication.policy_version, adoption.origin
        log.info(f"[4/5] published: version {version} is adopted from {origin} ({publication.model})")
        return
    score = "" if result.score is None else f", score {result.score:.4f}"
    algorithm = f", {result.algorithm}" if result.algorithm else ""
    chosen = f"version {publication.policy_version} is epoch {result.epoch}{score}{algorithm}"
    log.info(f"[4/5] published: {chosen} ({publication.model})")


def report_failure(context: Context, cycle: Cycle) -> None:
    """Report a failed attempt and its effect on the cycle: another attempt, parked, or failed."""
    if cycle.phase is Phase.CLAIMED:
        delay_s = cycle.due_s - context.clock.utc_s()
        context.log.warning(f"cycle {cycle.id}: {cycle.why}; trying again in {delay_s:.0f} s")
    elif cycle.phase is Phase.PARKED:
        report_parked(context, cycle)
    else:
        log = context.paths.cycle_log(cycle.id).name
        context.warn("W_CYCLE_FAILED", f"cycle {cycle.id} failed: {cycle.why} (log: Logs/{log})")


def report_parked(context: Context, cycle: Cycle) -> None:
    """Warn that a cycle is parked, why, and what continues it."""
    remedy = "correct the cause; a start with changed settings, or `hotlap trigger`, tries it again with its rollouts"
    context.warn("W_PARKED", f"cycle {cycle.id} is parked: {cycle.why} -> {remedy}")


def report_stuck(context: Context, pids: Sequence[int]) -> str:
    """Warn that killed trainers do not end; return a short message for the status."""
    stuck = f"stuck: the trainer (pid {', '.join(map(str, pids))}) was killed and does not end"
    context.warn(
        "W_STUCK", f"{stuck}; no other trainer starts -> a driver or a disk does not respond: restart the machine"
    )
    return stuck


def report_unpublished(context: Context, cycle: Cycle, error: Exception) -> None:
    """Warn that a model cannot be published yet."""
    version = cycle.policy_version
    context.warn("W_PUBLISH", f"version {version} cannot be published yet: {error_text(error)}; trying again")
