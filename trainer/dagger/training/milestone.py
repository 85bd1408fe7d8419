"""One milestone, from the expert's evaluation to the policy. Steps that progress.pt contains are not repeated."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES
from schemas.storage.files import REAL_DISK, read_with_retries
from schemas.storage.held_open import retry_while_held_open
from trainer.common.reporting.video import remove_unfinished
from trainer.dagger.environment.creation import open_environments
from trainer.dagger.environment.errors import EnvironmentRaisedError
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.expert.client import Expert
from trainer.dagger.expert.evaluation import completed_state, evaluate_expert, require_strong_expert
from trainer.dagger.inputs import Inputs, inputs_of
from trainer.dagger.messages import ExpertEvaluated, Message, MilestoneJob, RoundDone
from trainer.dagger.milestones import Milestone
from trainer.dagger.reporting.videos import MilestoneVideos
from trainer.dagger.results import MilestoneResult, new_result
from trainer.dagger.training.artifacts import write_details, write_models
from trainer.dagger.training.context import EXPERT_VIDEOS, POLICY_VIDEOS, Emit, MilestoneContext
from trainer.dagger.training.dataset import Dataset
from trainer.dagger.training.episodes import EpisodeSpec, EpisodeStatistics, run_policy
from trainer.dagger.training.learner import DaggerLearner, LearnerConfig
from trainer.dagger.training.progress_store import (
    MilestoneProgress,
    load_progress,
    save_progress,
    work_folder,
)
from trainer.dagger.training.rounds import run_round
from trainer.dagger.training.start_states import read_start_state, save_completed_state

MAX_ENVS = 16
_PROBE_SIZE = 8
log = logging.getLogger("trainer.dagger")


def run_milestone(job: MilestoneJob, emit: Emit, expert_log: IO[bytes]) -> MilestoneResult:
    """Run a milestone to its end and return the result. An expected failure is a result with a reason of one line."""
    milestone = next(m for m in job.config.milestones if m.id == job.milestone_id)
    progress, reason = MilestoneProgress(Inputs({}, "")), ""
    try:
        with closing(_run_steps(job, milestone, emit, expert_log)) as steps:
            for progress in steps:  # noqa: B007
                pass
    except HotlapError as error:
        log.exception("the milestone %s failed", milestone.id)
        reason = str(error)
    result = _result_of(job, milestone, progress, reason)
    write_details(job, milestone, progress, result)
    return result


def _run_steps(
    job: MilestoneJob, milestone: Milestone, emit: Emit, expert_log: IO[bytes]
) -> Generator[MilestoneProgress]:
    """Do the steps that are left, and yield the progress after each."""
    with ExitStack() as stack:
        folder_of_config = Path(job.config_dir) if job.config_dir else None
        envs = open_environments(job.config, MAX_ENVS, folder=folder_of_config)
        for env in envs:
            stack.callback(_close, env)
        path = Path(job.expert_dir) / f"{milestone.id}.py"
        start_state = read_start_state(milestone, job, envs[0], expert_log)
        expert, expert_source, folder = None, b"", work_folder(job)
        if path.is_file() or not job.demonstrations:
            timeout_s = job.settings.expert_timeout
            expert = stack.enter_context(Expert(path, envs[0].actions, call_timeout_s=timeout_s, log=expert_log))
            expert_source = retry_while_held_open(path.read_bytes, pause=REAL_DISK.pause)
        progress, note = load_progress(folder, inputs_of(job, milestone, expert_source, start_state, envs[0]))
        for kind in (EXPERT_VIDEOS, POLICY_VIDEOS):
            remove_unfinished(Path(job.output_dir) / kind / milestone.id)
        videos = MilestoneVideos(
            Path(job.output_dir), milestone.id, lambda text: emit(Message(text=text)), enabled=job.record_video
        )
        context = MilestoneContext(job, milestone, envs, start_state, expert, emit, folder, videos)
        for text in (note, envs[0].spec.note, envs[0].start_note()):
            if text:
                context.report(text)
        if expert is None:
            context.report("has no expert: its policy is cloned from the demonstrations alone")
            yield from _train(context, progress, milestone.max_steps, rounds=1)
            return
        if progress.expert is None:
            progress = replace(progress, expert=evaluate_expert(context))
            save_progress(folder, progress)
        yield progress
        assert progress.expert is not None
        statistics, limit = progress.expert.statistics, progress.expert.max_episode_steps
        emit(
            ExpertEvaluated(
                success_rate=statistics.success_rate, mean_steps=statistics.mean_steps, max_episode_steps=limit
            )
        )
        yield from _train(
            context, progress, require_strong_expert(context, progress.expert), job.settings.dagger_iterations
        )


def _close(env: MilestoneEnv) -> None:
    """Close an environment. An exception in it changes nothing any more, and is only logged."""
    try:
        env.close()
    except EnvironmentRaisedError:
        log.exception("an environment cannot be closed")


def _train(
    context: MilestoneContext, progress: MilestoneProgress, limit: int, rounds: int
) -> Generator[MilestoneProgress]:
    """Do the rounds that are left, write the models, and evaluate the best policy over many episodes."""
    settings, spec = context.job.settings, context.episode_spec(limit)
    learner = _new_learner(context, progress.learner)
    start_from = context.job.start_from
    if start_from and not progress.learner:
        learner.start_from(read_with_retries(Path(start_from), limit=MAX_MODEL_BYTES), Path(start_from).name)
    while len(progress.rounds) < rounds and not _is_good_enough(context, progress):
        progress = run_round(context, spec, learner, progress)
        save_progress(context.folder, progress)
        yield progress
        context.emit(_round_done(progress, rounds))
    if len(progress.rounds) < rounds:
        context.report(
            f"ends after {len(progress.rounds)} of {rounds} rounds, because in the last "
            f"{settings.patience} its policy was as good as its expert (--patience)"
        )
    rows = np.arange(_PROBE_SIZE) % progress.rounds[0].labels
    probe, _ = Dataset(context.labels_folder, 1).batch(rows)
    best = _new_learner(context, progress.best)
    write_models(context, progress, probe, best=best, last=learner)
    if progress.final is None:
        seeds = context.seeds(settings.final_eval_episodes, "final")
        episodes = context.gather(run_policy(context.envs, spec, seeds, best.act))
        progress = replace(progress, final=EpisodeStatistics.of(episodes))
        if context.expert is None:
            _save_policys_end(context, spec, [seeds[e.number] for e in episodes if e.success], best)
        save_progress(context.folder, progress)
        yield progress


def _save_policys_end(context: MilestoneContext, spec: EpisodeSpec, seeds: list[int], policy: DaggerLearner) -> None:
    """Save the state in which a policy reached the milestone, because an expert does not exist that could do it."""
    for seed in seeds[:1]:
        [episode] = run_policy(context.envs[:1], spec, [seed], policy.act)
        state = completed_state(context) if episode.success else None
        if state is not None:
            save_completed_state(context.milestone.id, state, context.job)


def _is_good_enough(context: MilestoneContext, progress: MilestoneProgress) -> bool:
    """Return whether the policy succeeded as often as its expert in the last rounds, as many as --patience requires."""
    patience, expert = context.job.settings.patience, progress.expert
    if expert is None or not 0 < patience <= len(progress.rounds):
        return False
    last = progress.rounds[-patience:]
    return all(done.evaluation.success_rate >= expert.statistics.success_rate for done in last)


def _new_learner(context: MilestoneContext, state: dict[str, Any]) -> DaggerLearner:
    """Return a learner with a saved state; an empty one is that of an untrained policy."""
    settings, env = context.job.settings, context.envs[0]
    device = _choose_device(context.job, env)
    config = LearnerConfig(context.milestone.id, settings.hidden_dim, settings.learning_rate, settings.seed, device)
    learner = DaggerLearner(env.spec, env.actions, config)
    if state:
        learner.load_state_dict(state)
    return learner


def _choose_device(job: MilestoneJob, env: MilestoneEnv) -> str:
    """Return cuda for images if it is available. Vectors of the usual sizes are faster on the CPU."""
    return "cuda" if job.device == "auto" and env.spec.is_image and torch.cuda.is_available() else "cpu"


def _round_done(progress: MilestoneProgress, iterations: int) -> RoundDone:
    last = progress.rounds[-1]
    return RoundDone(
        iteration=len(progress.rounds) - 1,
        iterations=iterations,
        beta=last.beta,
        success_rate=last.evaluation.success_rate,
        mean_steps=last.evaluation.mean_steps,
        loss=last.loss,
        labels=last.labels,
        seconds=last.seconds,
    )


def _result_of(job: MilestoneJob, milestone: Milestone, progress: MilestoneProgress, reason: str) -> MilestoneResult:
    expert = progress.expert
    numbers: dict[str, Any] = {}
    if expert is not None:
        numbers |= {f"expert_{name}": getattr(expert.statistics, name) for name in ("success_rate", "mean_steps")}
        numbers |= {"expert_std_steps": expert.statistics.std_steps, "max_episode_steps": expert.max_episode_steps}
    if not reason and progress.final is not None:
        numbers["dagger_final_success_rate"] = progress.final.success_rate
    return new_result(job.config, milestone.id, "failed" if reason else "completed", reason, **numbers)
