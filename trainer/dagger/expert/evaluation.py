"""The evaluation of an expert: its episodes, its completed state, and whether it can be learned from."""

from __future__ import annotations

import math
from contextlib import ExitStack

from schemas.errors import HotlapError
from trainer.dagger.environment.errors import EnvironmentRaisedError, StateError
from trainer.dagger.expert.client import Expert, ExpertError
from trainer.dagger.expert.memory import examine_memory
from trainer.dagger.milestones import completed_state_name
from trainer.dagger.training.context import EXPERT_VIDEOS, MilestoneContext
from trainer.dagger.training.episodes import Episode, EpisodeSpec, EpisodeStatistics, ExpertEpisode, run_expert
from trainer.dagger.training.progress_store import ExpertEvaluation
from trainer.dagger.training.start_states import save_completed_state

_PROBED_SEEDS = 2


class ExpertTooWeakError(HotlapError):
    """The expert's success rate is too low to learn from it."""

    code = "E_EXPERT_WEAK"


def evaluate_expert(context: MilestoneContext) -> ExpertEvaluation:
    """Run the expert's episodes, and save the state in which it first reached the milestone if it is good enough.

    Raises StateError if the milestone is reached in its start state.
    """
    spec, settings, expert = context.episode_spec(context.milestone.max_steps), context.job.settings, context.expert
    assert expert is not None
    episodes: list[Episode] = []
    first: ExpertEpisode | None = None
    reached: bytes | None = None
    try:
        for number, seed in enumerate(context.seeds(settings.eval_episodes, "expert"), start=1):
            done = _run_expert_episode(context, expert, spec, seed, number)
            context.heartbeat()
            first = first or done
            if done.episode.success and reached is None:
                reached = completed_state(context)
            episodes.append(done.episode)
    except ExpertError:
        if first is not None and (note := _memory_note(expert, first)):
            context.report(note)
        raise
    assert first is not None
    _require_not_reached_at_start(context, spec, episodes)
    note = examine_memory(expert, first.states, first.labels)
    if note:
        context.report(note)
    statistics = EpisodeStatistics.of(episodes)
    limit = None
    if statistics.mean_steps is not None and statistics.success_rate >= settings.min_success_rate:
        limit = math.ceil(statistics.mean_steps * settings.step_multiplier)
    if limit is not None and reached is not None:
        save_completed_state(context.milestone.id, reached, context.job)
    if not note and not statistics.success_rate:
        note = context.envs[0].reported_milestones(context.milestone.id)
    return ExpertEvaluation(statistics, tuple((e.success, e.steps) for e in episodes), limit, note)


def require_strong_expert(context: MilestoneContext, expert: ExpertEvaluation) -> int:
    """Return the step limit of the policy's episodes. Raises ExpertTooWeakError."""
    if expert.max_episode_steps is not None:
        return expert.max_episode_steps
    required, note = context.job.settings.min_success_rate, f": {expert.note}" if expert.note else ""
    hint = "improve the expert, or lower --min-success-rate"
    if expert.note and not expert.statistics.success_rate:
        hint = "correct this, or improve the expert"
    raise ExpertTooWeakError(
        f"the expert's success rate is {expert.statistics.success_rate:.2f}, below {required:.2f}{note}", hint=hint
    )


def _memory_note(expert: Expert, episode: ExpertEpisode) -> str:
    """Return what the expert's memory has to do with its failure, or "" if its process does not answer."""
    try:
        return examine_memory(expert, episode.states, episode.labels)
    except ExpertError:
        return ""


def completed_state(context: MilestoneContext) -> bytes | None:
    """Return the state at the end of an episode; None if it cannot be saved, and no milestone starts from it.

    Raises EnvironmentRaisedError if a milestone starts from it.
    """
    env, name = context.envs[0], completed_state_name(context.milestone.id)
    is_needed = any(milestone.start_state_name() == name for milestone in context.job.config.milestones)
    if not env.can_save():
        return None
    try:
        return env.save_state()
    except EnvironmentRaisedError as error:
        if is_needed:
            raise
        context.report(f"its completed state is not saved: {error.message}")
        return None


def _run_expert_episode(
    context: MilestoneContext, expert: Expert, spec: EpisodeSpec, seed: int, number: int
) -> ExpertEpisode:
    expert.seed(seed)
    with ExitStack() as stack:
        video = context.videos.new(EXPERT_VIDEOS, context.envs[0])
        frames = None if video is None else stack.enter_context(video)
        done = run_expert(context.envs[0], spec, seed, expert, frames)
        if video is not None:
            outcome = "success" if done.episode.success else "failure"
            video.finish(f"expert_eval_ep{number}_{outcome}_steps{done.episode.steps}.mp4")
    return done


def _require_not_reached_at_start(context: MilestoneContext, spec: EpisodeSpec, episodes: list[Episode]) -> None:
    """Raise StateError if the milestone is reached after one step, whatever the action is.

    It is reached in its start state then, or a flag of an earlier episode was not cleared.
    """
    steps = [episode.steps for episode in episodes if episode.success]
    if not steps or (min(steps) > 1 and len(steps) > 1):
        return
    env, name = context.envs[0], context.milestone.id
    for seed in context.seeds(_PROBED_SEEDS, "start"):
        for label in env.actions.different_labels():
            env.reset(seed, spec.start_state)
            _, _, reached = env.step(label)
            if name not in reached:
                return
    raise StateError(
        f"{name} is reached in its start state: the environment reports it after the first step, whatever the action",
        hint="start from an earlier state, or let reset() and load_state() clear what was reached before",
    )
