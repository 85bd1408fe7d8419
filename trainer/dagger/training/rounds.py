"""One round of DAgger: collect labels, train on all labels so far, evaluate the policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import HotlapError
from trainer.common.rng import numpy_rng_for
from trainer.dagger.actions import Labels
from trainer.dagger.training.context import POLICY_VIDEOS, MilestoneContext
from trainer.dagger.training.dataset import Dataset, RoundWriter
from trainer.dagger.training.episodes import Episode, EpisodeSpec, EpisodeStatistics, collect_labels, run_policy
from trainer.dagger.training.learner import DaggerLearner
from trainer.dagger.training.progress_store import CompletedRound, MilestoneProgress
from trainer.dagger.training.start_states import episode_seed


class DivergedError(HotlapError):
    """Training led to weights that are not finite."""

    code = "E_DIVERGED"


def run_round(
    context: MilestoneContext, spec: EpisodeSpec, learner: DaggerLearner, progress: MilestoneProgress
) -> MilestoneProgress:
    """Do the next round and return the progress after it. Raises HotlapError."""
    number, settings = len(progress.rounds), context.job.settings
    start_s = time.monotonic()
    if number == 0 and context.job.demonstrations:
        from trainer.dagger.demonstrations.reading import demonstrations_of, read_pairs

        folder, env = demonstrations_of(context.job.demonstrations, context.milestone.id), context.envs[0]
        pairs = read_pairs(folder, env.spec, env.actions)
        labels, rate = write_demonstrations(context.labels_folder, pairs, learner), None
    else:
        labels, collected = _collect(context, spec, learner, number)
        rate = sum(episode.success for episode in collected) / len(collected)
    loss = learner.train(
        Dataset(context.labels_folder, number + 1),
        steps=settings.train_steps_per_iter,
        batch_size=settings.batch_size,
        round_number=number,
        heartbeat=context.heartbeat,
    )
    if not learner.is_finite():
        raise DivergedError("the policy contains weights that are not finite", hint="lower --learning-rate")
    trained_s = time.monotonic()
    evaluated = _evaluate(context, spec, learner, number)
    end_s = time.monotonic()
    done = CompletedRound(
        beta=settings.beta(number),
        labels=labels + (progress.rounds[-1].labels if progress.rounds else 0),
        loss=loss,
        evaluation=EpisodeStatistics.of(evaluated),
        collected_success_rate=rate,
        seconds=end_s - start_s,
        evaluation_seconds=end_s - trained_s,
    )
    return progress.with_round(done, learner.state_dict())


def write_demonstrations(folder: Path, pairs: Sequence[tuple[NDArray[Any], Labels]], learner: DaggerLearner) -> int:
    """Write demonstrations as the first round, and return the number of labels. Updates the learner's normaliser."""
    writer = RoundWriter(folder, 0)
    for observations, labels in pairs:
        writer.add(observations, labels)
    learner.update_normaliser(np.concatenate([observations for observations, _ in pairs]))
    return writer.finish()


def _collect(
    context: MilestoneContext, spec: EpisodeSpec, learner: DaggerLearner, number: int
) -> tuple[int, list[Episode]]:
    """Write a round's labels to disk. Return their number and the episodes. Updates the learner's normaliser."""
    settings, name = context.job.settings, context.milestone.id
    seeds = context.seeds(settings.episodes_per_iter, "collect", number)
    expert_acts = [_expert_acts(context, spec, number, k) for k in range(len(seeds))]
    expert = context.expert
    assert expert is not None
    expert.seed(episode_seed(context.job, name, "labels", number))
    writer = RoundWriter(context.labels_folder, number)
    episodes: list[Episode] = []
    vectors: list[NDArray[np.float32]] = []
    for labelled in collect_labels(context.envs, spec, seeds, expert_acts, learner.act, expert):
        context.heartbeat()
        writer.add(labelled.observations, labelled.labels)
        episodes.append(labelled.episode)
        if not context.envs[0].spec.is_image:
            vectors.append(labelled.observations)
    labels = writer.finish()
    if vectors:
        learner.update_normaliser(np.concatenate(vectors))
    return labels, episodes


def _expert_acts(context: MilestoneContext, spec: EpisodeSpec, number: int, episode: int) -> NDArray[np.bool_]:
    """Return for each step of an episode whether the expert acts: with probability beta."""
    settings = context.job.settings
    purpose = ("dagger", context.milestone.id, "coin", number, episode)  # another name would change all results
    rng = numpy_rng_for(settings.seed, *purpose)
    return rng.random(spec.max_steps) < settings.beta(number)


def _evaluate(context: MilestoneContext, spec: EpisodeSpec, learner: DaggerLearner, number: int) -> list[Episode]:
    """Run the evaluation's episodes, which have the same seeds in every round, and record the first."""
    seeds = context.seeds(context.job.settings.policy_eval_episodes, "evaluate")
    with ExitStack() as stack:
        video = context.videos.new(POLICY_VIDEOS, context.envs[0])
        frames = {} if video is None else {0: stack.enter_context(video)}
        episodes = context.gather(run_policy(context.envs, spec, seeds, learner.act, frames=frames))
        if video is not None:
            video.finish(f"rollout_iter{number}_ep0_{context.milestone.id}.mp4")
    return episodes
