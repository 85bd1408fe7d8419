"""One milestone from its expert to its policy. Each step is done once: what progress.pt holds is not done again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import HotlapError
from trainer.common.rng import numpy_rng_for
from trainer.dagger.environment import MilestoneEnv, open_environments
from trainer.dagger.expert.client import Expert, ExpertError
from trainer.dagger.messages import Alive, Event, ExpertDone, Line, MilestoneJob, MilestoneResult, RoundDone
from trainer.dagger.milestones import Milestone
from trainer.dagger.reporting.video import VideoWriter, remove_unfinished
from trainer.dagger.training.artifacts import write_details, write_models
from trainer.dagger.training.dataset import Dataset, write_round
from trainer.dagger.training.episodes import (
    Episode,
    FrameSink,
    LabelledEpisode,
    Task,
    collect,
    demonstrate,
    play,
    score_of,
)
from trainer.dagger.training.learner import DaggerLearner, LearnerConfig
from trainer.dagger.training.progress_store import (
    CompletedRound,
    ExpertRecord,
    MilestoneProgress,
    data_folder,
    fingerprint_of,
    load_progress,
    save_progress,
    work_folder,
)
from trainer.dagger.training.start_states import episode_seed, read_start, save_completed

Emit = Callable[[Event], None]
MOST_LANES = 16


class ExpertTooWeakError(HotlapError):
    """The expert's success rate is too low to learn from."""

    code = "E_EXPERT_WEAK"


@dataclass(frozen=True, slots=True)
class MilestoneContext:
    """What every step of a milestone works with."""

    job: MilestoneJob
    milestone: Milestone
    worlds: list[MilestoneEnv]
    start: bytes | None
    expert: Expert
    emit: Emit
    folder: Path

    def alive(self) -> None:
        """Say that work goes on."""
        self.emit(Alive())

    def task(self, max_steps: int) -> Task:
        """Return the episodes' common part."""
        return Task(self.milestone.id, self.start, max_steps)

    def seeds(self, count: int, *purpose: str | int) -> list[int]:
        """Return so many episodes' seeds."""
        return [episode_seed(self.job, self.milestone.id, *purpose, k) for k in range(count)]

    def film(self, kind: str) -> VideoWriter | None:
        """Return a film for videos of a kind, where videos are wanted."""
        if not self.job.record_video:
            return None
        return VideoWriter(Path(self.job.output_dir) / kind / self.milestone.id, self.worlds[0].frames_per_second())


def run_milestone(job: MilestoneJob, emit: Emit, log: IO[bytes]) -> MilestoneResult:
    """Carry a milestone as far as it goes; an expected failure is a result, with its reason in one line."""
    milestone = next(m for m in job.config.milestones if m.id == job.milestone_id)
    work, failed = MilestoneProgress(""), ""
    try:
        with closing(_steps(job, milestone, emit, log)) as steps:
            for step in steps:
                work = step
    except HotlapError as error:
        failed = str(error)
    result = _result(milestone, job.config.ids().index(milestone.id), work, failed)
    write_details(job, milestone, work, result)
    return result


def _steps(job: MilestoneJob, milestone: Milestone, emit: Emit, log: IO[bytes]) -> Generator[MilestoneProgress]:
    """Do what is left to do; give the work as it stands after each step."""
    with ExitStack() as stack:
        worlds = open_environments(job.config, MOST_LANES)
        for world in worlds:
            stack.callback(world.close)
        path = Path(job.policy_dir) / f"{milestone.id}.py"
        start = read_start(milestone, job, worlds[0], log)
        limit_s = job.settings.expert_timeout
        expert = stack.enter_context(Expert(path, worlds[0].actions, call_limit_s=limit_s, log=log))
        work, told = load_progress(work_folder(job), fingerprint_of(job, milestone, path.read_bytes(), start))
        if told:
            emit(Line(text=f"{milestone.id}: {told}"))
        for kind in ("expert_eval_videos", "dagger_videos"):
            remove_unfinished(Path(job.output_dir) / kind / milestone.id)
        bench = MilestoneContext(job, milestone, worlds, start, expert, emit, work_folder(job))
        work = _with_expert(bench, work)
        yield work
        yield from _learned(bench, work, _step_limit(bench, work))


def _step_limit(context: MilestoneContext, progress: MilestoneProgress) -> int:
    """Report how the expert did and give the step limit. Raises ExpertTooWeakError."""
    assert progress.expert is not None
    score, limit = progress.expert.score, progress.expert.max_episode_steps
    context.emit(ExpertDone(success_rate=score.success_rate, mean_steps=score.mean_steps, max_episode_steps=limit))
    if limit is None:
        least = context.job.settings.min_success_rate
        raise ExpertTooWeakError(
            f"the expert's success rate is {score.success_rate:.2f}, below {least:.2f}",
            hint="mend the expert, or lower --min-success-rate",
        )
    return limit


def _with_expert(context: MilestoneContext, progress: MilestoneProgress) -> MilestoneProgress:
    """Evaluate the expert, unless that was done; keep the state in which it first reached the milestone."""
    if progress.expert is not None:
        return progress
    task, settings = context.task(context.milestone.max_steps), context.job.settings
    episodes: list[Episode] = []
    reached: bytes | None = None
    for k, seed in enumerate(context.seeds(settings.eval_episodes, "expert")):
        context.expert.seed(seed)
        film = context.film("expert_eval_videos")
        try:
            episode, state = demonstrate(context.worlds[0], task, seed, context.expert, film)
            outcome = "success" if episode.success else "failure"
            if film is not None:
                film.finish(f"expert_eval_ep{k + 1}_{outcome}_steps{episode.steps}.mp4")
        finally:
            if film is not None:
                film.drop()
        context.alive()
        reached = state if episode.success and reached is None else reached
        episodes.append(episode)
    score = score_of(episodes)
    enough = score.mean_steps is not None and score.success_rate >= settings.min_success_rate
    limit = math.ceil(score.mean_steps * settings.step_multiplier) if enough and score.mean_steps is not None else None
    record = ExpertRecord(score, tuple((e.success, e.steps) for e in episodes), limit)
    if limit is not None and reached is not None:
        save_completed(context.milestone.id, reached, context.job)
    progress = replace(progress, expert=record)
    save_progress(context.folder, progress)
    return progress


def _learned(context: MilestoneContext, progress: MilestoneProgress, limit: int) -> Generator[MilestoneProgress]:
    """Do the rounds that are left, then judge the best policy once more over many episodes."""
    job, world = context.job, context.worlds[0]
    settings = job.settings
    recipe = LearnerConfig(
        context.milestone.id, settings.hidden_dim, settings.learning_rate, settings.seed, _device(job, world)
    )
    learner = DaggerLearner(world.spec, world.actions, recipe)
    if progress.rounds:
        learner.load(progress.learner)
    task = context.task(limit)
    while len(progress.rounds) < settings.dagger_iterations:
        progress = _one_round(context, task, learner, progress)
        save_progress(context.folder, progress)
        yield progress
        last = progress.rounds[-1]
        context.emit(
            RoundDone(
                iteration=len(progress.rounds) - 1,
                iterations=settings.dagger_iterations,
                beta=last.beta,
                success_rate=last.score.success_rate,
                mean_steps=last.score.mean_steps,
                loss=last.loss,
                labels=last.labels,
                seconds=last.seconds,
            )
        )
    probe = Dataset(data_folder(context.folder), 1).take(np.arange(8) % progress.rounds[0].labels)[0]
    write_models(job, context.milestone.id, learner, progress, probe)
    if progress.final is None:
        learner.load(progress.best)
        seeds = context.seeds(settings.final_eval_episodes, "final")
        progress = replace(progress, final=score_of(_played(context, play(context.worlds, task, seeds, learner.act))))
        save_progress(context.folder, progress)
        yield progress


def _device(job: MilestoneJob, env: MilestoneEnv) -> str:
    """Pictures gain from CUDA where there is one; vectors of the usual sizes are faster on the CPU."""
    return "cuda" if job.device == "auto" and env.spec.pixels and torch.cuda.is_available() else "cpu"


def _one_round(
    context: MilestoneContext, task: Task, learner: DaggerLearner, progress: MilestoneProgress
) -> MilestoneProgress:
    """Collect, label, train, evaluate."""
    number, settings, name = len(progress.rounds), context.job.settings, context.milestone.id
    began_s, beta = time.monotonic(), context.job.settings.beta(len(progress.rounds))
    seeds = context.seeds(settings.episodes_per_iter, "collect", number)
    coins = [
        numpy_rng_for(settings.seed, "dagger", name, "coin", number, k).random(task.max_steps) < beta
        for k in range(len(seeds))
    ]
    context.expert.seed(episode_seed(context.job, name, "labels", number))
    played: list[Episode] = []
    collected = collect(context.worlds, task, seeds, coins, learner.act, context.expert)
    labels = write_round(data_folder(context.folder), number, _taken_in(context, collected, learner, played))
    loss = learner.train(
        Dataset(data_folder(context.folder), number + 1),
        steps=settings.train_steps_per_iter,
        batch_size=settings.batch_size,
        round_number=number,
        alive=context.alive,
    )
    if not learner.is_finite():
        raise ExpertError("the policy's weights are no longer finite", hint="lower --learning-rate", code="E_NONFINITE")
    trained_s = time.monotonic()
    episodes = _evaluated(context, task, learner, number)
    over_s = time.monotonic()
    labels += progress.rounds[-1].labels if progress.rounds else 0
    done = CompletedRound(
        beta=beta,
        labels=labels,
        loss=loss,
        score=score_of(episodes),
        collected_success_rate=sum(e.success for e in played) / len(played),
        seconds=over_s - began_s,
        evaluation_seconds=over_s - trained_s,
    )
    return progress.with_round(done, learner.state())


def _taken_in(
    context: MilestoneContext, collected: Iterator[LabelledEpisode], learner: DaggerLearner, played: list[Episode]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Pass episodes on to the disk; units move once all of a round's episodes are played."""
    seen: list[NDArray[Any]] = []
    for labelled in collected:
        context.alive()
        played.append(labelled.episode)
        if labelled.observations.ndim == 2:
            seen.append(labelled.observations)
        yield labelled.observations, labelled.labels
    if seen:
        learner.absorb(np.concatenate(seen))


def _evaluated(context: MilestoneContext, task: Task, learner: DaggerLearner, number: int) -> list[Episode]:
    """Play the evaluation's episodes, the same in every round, and film the first."""
    film = context.film("dagger_videos")
    cameras: dict[int, FrameSink] = {} if film is None else {0: film}
    try:
        seeds = context.seeds(context.job.settings.policy_eval_episodes, "evaluate")
        episodes = _played(context, play(context.worlds, task, seeds, learner.act, cameras=cameras))
        if film is not None:
            film.finish(f"rollout_iter{number}_ep0_{context.milestone.id}.mp4")
    finally:
        if film is not None:
            film.drop()
    return episodes


def _played(context: MilestoneContext, episodes: Iterator[Episode]) -> list[Episode]:
    """Take episodes in as they end."""
    done = []
    for episode in episodes:
        context.alive()
        done.append(episode)
    return done


def _result(milestone: Milestone, index: int, progress: MilestoneProgress, failed: str) -> MilestoneResult:
    expert, score = progress.expert, progress.expert.score if progress.expert else None
    return MilestoneResult(
        milestone_id=milestone.id,
        index=index,
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        status="failed" if failed else "completed",
        reason=failed,
        expert_success_rate=score.success_rate if score else None,
        expert_mean_steps=score.mean_steps if score else None,
        expert_std_steps=score.std_steps if score else None,
        max_episode_steps=expert.max_episode_steps if expert else None,
        dagger_final_success_rate=None if failed or progress.final is None else progress.final.success_rate,
    )
