"""A run: collect, learn, evaluate and save, until all steps are done or a stop is requested.

A resumed run ends in the same bits as one that was never stopped: all random numbers are derived from step and batch
counts, and a checkpoint contains what the episodes continue from. An environment that cannot continue an episode starts
all of them again at a checkpoint, but not before each agent has ended one.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from trainer.common import threads
from trainer.common.rng import key_for, numpy_rng_for
from trainer.online.actor import Actor
from trainer.online.checkpoints import CheckpointManager, RunProgress, resume
from trainer.online.collector import Collector
from trainer.online.config import OnlineSettings
from trainer.online.environments import Environments, SingleEnvironments
from trainer.online.evaluation.best_model import Evaluated, EvaluationStoppedError, judge
from trainer.online.learners.choice import image_of, make_learner
from trainer.online.learners.ppo import ScheduledValues
from trainer.online.reporting.console import RunConsole
from trainer.online.run_folder import CHECKPOINTS, shown_from_here
from trainer.online.start_from import start_from

_LONG_EVALUATION_S = 10.0
_LONG_EPISODE = 1_000  #: steps after which an end is missed
_LOSSES = frozenset(
    ("total", "policy_loss", "value_loss", "critic_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
)


class OnlineRun:
    """One run in its folder. Nothing is written before `train`. `close` closes the environments."""

    def __init__(self, settings: OnlineSettings, folder: Path, num_envs: int, *, from_checkpoint: Path | None) -> None:
        threads.limit_numpy_to_one_thread()
        threads.set_thread_count(settings.run.threads or 1)
        self.settings, limits = settings, settings.checkpoints
        checkpoints = folder / CHECKPOINTS
        self._shown = shown_from_here(checkpoints)  # before an environment changes the current folder
        start = Path(settings.run.start_from).absolute()
        self._checkpoints = CheckpointManager(checkpoints, keep_newest=limits.keep_newest, keep_best=limits.keep_best)
        self.environments: Environments = make_environments(settings, num_envs, checkpoints / "pool")
        self.learner = make_learner(self.environments.env.contract, settings, image_of(self.environments.env))
        self.progress, self._probe = RunProgress(), torch.zeros(0, 0)
        self.notes: list[str] = []  #: for the log
        if from_checkpoint is not None:
            self.progress, self._probe = resume(from_checkpoint, self.learner)
            self.environments.restore(self.progress.environments)
        elif settings.run.start_from:
            self.notes += start_from(start, self.learner)
        self._stop: Callable[[], bool] = lambda: False
        self._collector: Collector | None = None
        self._ended = 0  #: episodes since the last checkpoint
        self._has_reported_endless = False
        self._saved_at: int | None = None  #: steps of the last checkpoint of this process

    @property
    def is_finished(self) -> bool:
        """Return whether all steps are done or the goal is reached."""
        return self.progress.steps >= self.settings.run.total_steps or self.progress.has_reached_goal

    def train(self, console: RunConsole, *, stop: Callable[[], bool]) -> str:
        """Train until the end, or until `stop` returns True; then finish the batch and save. Return why it ended.

        Raises HotlapError or OSError.
        """
        self._console, self._stop = console, stop
        self._checkpoints.folder.mkdir(parents=True, exist_ok=True)
        progress, settings = self.progress, self.settings
        began_s, seconds_before = time.monotonic(), progress.seconds
        self._continue_episodes()
        self._evaluate_if_due()  # the run may have ended in an evaluation
        while not self.is_finished and not stop():
            actor = Actor.of(self.learner.network, self.learner.normalisers, self.learner.contract)
            is_new = self.environments.before_batch(actor, progress.steps)
            if is_new or self._collector is None:
                self._collector = self._start_collector()
            steps_before = progress.steps
            self._train_on_batch(self._collector, actor)
            progress.seconds = seconds_before + time.monotonic() - began_s
            self._evaluate_if_due()
            if _contains_multiple(steps_before, progress.steps, settings.checkpoints.every_steps):
                self._save_checkpoint()
        progress.seconds = seconds_before + time.monotonic() - began_s
        if self._saved_at != progress.steps:
            self._save_checkpoint()
        if self.is_finished:
            path = self._checkpoints.save_as("final_model", self.learner, progress, self._probe)
            self._console.line(f"done: {self._shown}/{path.name}")
        return self._reason()

    def _reason(self) -> str:
        progress, goal = self.progress, self.settings.evaluation.stop_at
        if progress.has_reached_goal:
            return f"a mean return of {progress.last:.4g} reaches evaluation.stop_at = {goal:g}"
        if self.is_finished:
            return f"all {self.settings.run.total_steps:,} steps are done"
        return f"stopped after {progress.steps:,} of {self.settings.run.total_steps:,} steps"

    def close(self) -> None:
        """Close the environments."""
        self.environments.close()

    def _start_collector(self) -> Collector:
        """Start new episodes in all environments, from a seed that depends on the step count."""
        return Collector(self.environments.env, key_for(self.settings.run.seed, "episodes", self.progress.steps))

    def _continue_episodes(self) -> None:
        """Continue the episodes of the checkpoint, or report that new ones start."""
        progress = self.progress
        reason = "this environment cannot continue an episode" if progress.episodes_are_lost else ""
        if progress.episodes:
            try:
                self._collector = Collector(self.environments.env, seed=0, saved=progress.episodes)
            except ValueError as error:
                reason = str(error)
        if reason:
            self._console.line(f"new episodes start, so the run will not equal an uninterrupted one: {reason}")

    def _train_on_batch(self, collector: Collector, actor: Actor) -> None:
        """Collect one batch, learn from it and log it."""
        progress, seed = self.progress, self.settings.run.seed
        began_s = time.perf_counter()
        rng = numpy_rng_for(seed, "act", progress.iteration)
        experiences = collector.collect(actor, self.settings.env.n_steps, rng)
        collected_s = time.perf_counter()
        scheduled = ScheduledValues.at(progress.steps, self.settings)
        losses = self.learner.learn(experiences, progress.iteration, scheduled)
        learned_s = time.perf_counter()
        while self.learner.notes:
            self._console.line(self.learner.notes.pop(0))
        progress.steps += experiences.size
        progress.iteration += 1
        for name in _LOSSES & losses.keys():
            progress.history.setdefault(name, []).append(losses[name])
        if not len(self._probe) or progress.iteration % 50 == 0:
            rows = numpy_rng_for(seed, "probe", progress.iteration).permutation(experiences.size)[:8]
            self._probe = torch.from_numpy(experiences.observation_BO[np.sort(rows)]).float()
        self.environments.after_batch()
        metrics = {f"train/{name}": value for name, value in losses.items()}
        metrics |= {f"train/{name}": value for name, value in dataclasses.asdict(scheduled).items()}
        metrics |= {f"reward/{name}_mean": value for name, value in collector.pop_reward_part_means().items()}
        metrics |= {
            "speed/collect_per_s": experiences.size / (collected_s - began_s),
            "speed/learn_per_s": experiences.size / (learned_s - collected_s),
            "speed/steps_per_s": experiences.size / (learned_s - began_s),
        }
        episodes, collector.episodes = collector.episodes, []
        self._ended += len(episodes)
        self._console.show_batch(progress.steps, metrics | self.environments.metrics(), episodes)

    def _evaluate_if_due(self) -> None:
        """Evaluate if it is due, and save the model if it is the best so far."""
        evaluation, progress = self.settings.evaluation, self.progress
        is_due = _contains_multiple(progress.evaluated, progress.steps, evaluation.every_steps)
        is_last = self.settings.run.total_steps <= progress.steps != progress.evaluated
        if not (evaluation.every_steps and (is_due or is_last)):
            return
        if not progress.kept:  # an evaluation is the first use of its environments, and may fail
            self._save_checkpoint()
        actor = Actor.of(self.learner.network, self.learner.normalisers, self.learner.contract)
        new = Evaluated(actor, progress.steps, self.environments.stage)
        stop = self._stop_with_patience()
        try:
            verdict = judge(
                new,
                progress.reference,
                lambda actor, block: self.environments.evaluate(actor, block, stop),
                confidence=evaluation.confidence,
                most_episodes=evaluation.most_episodes,
            )
        except EvaluationStoppedError:
            self._console.line("the evaluation was stopped; it is repeated when the run continues")
            return
        finally:
            if self.environments.evaluates_in_turn:
                self._collector, progress.episodes, progress.episodes_are_lost = None, {}, False
        score, reference = new.score, progress.reference
        compared_with = reference.steps if reference is not None and reference.stage == new.stage else 0
        progress.evaluated, progress.last, self._saved_at = progress.steps, score.mean, None
        self._console.show_evaluation(progress.steps, score, verdict, compared_with)
        goal = evaluation.stop_at
        progress.has_reached_goal = goal is not None and score.mean >= goal and verdict.result != "worse"
        if verdict.result == "better":
            progress.reference = new
        if verdict.result != "worse":
            progress.environments = self.environments.state()
            self._checkpoints.save_as("best_model", self.learner, progress, self._probe)

    def _stop_with_patience(self) -> Callable[[], bool]:
        """Return `stop`, which also writes a line if an evaluation takes long."""
        late_s = time.monotonic() + _LONG_EVALUATION_S

        def stop() -> bool:
            nonlocal late_s
            if time.monotonic() > late_s:
                most = self.settings.evaluation.most_steps
                self._console.line(f"the evaluation still runs; it ends episodes after {most:,} steps (most_steps)")
                late_s = math.inf
            return self._stop()

        return stop

    def _save_checkpoint(self) -> None:
        """Save a checkpoint. If the environment cannot continue episodes, let new ones start where that is harmless."""
        progress, collector = self.progress, self._collector
        progress.environments = self.environments.state()
        if collector is not None:
            progress.episodes = collector.state()
            if not progress.episodes and collector.may_restart():
                collector = self._collector = None
            progress.episodes_are_lost = collector is not None and not progress.episodes
        self._report_endless_episodes()
        path = self._checkpoints.save(self.learner, progress, self._probe)
        self.environments.after_checkpoint()
        self._saved_at = progress.steps
        self._console.line(f"checkpoint: {path.name}")

    def _report_endless_episodes(self) -> None:
        """Write a line, once, if no episode has ended since the last checkpoint."""
        collector, ended = self._collector, self._ended
        self._ended = 0
        if ended or self._has_reported_endless or collector is None or collector.longest_open < _LONG_EPISODE:
            return
        self._has_reported_endless = True
        shorter = {"rocket": "rocket.time_limit_s = 60", "racing": "env.time_limit = 1000"}
        remedy = shorter.get(self.settings.env.id, "env.options = { max_episode_steps = 1000 }")
        self._console.line(
            f"no episode ended since the last checkpoint; the longest has {collector.longest_open:,} steps; nothing is "
            f"learned from what happens at an end -> if they should be over by now, shorten them: {remedy}"
        )


def _contains_multiple(before: int, after: int, every: int) -> bool:
    """Return whether a multiple of `every` is in (before, after]."""
    return every > 0 and before // every < after // every


def make_environments(settings: OnlineSettings, num_envs: int, pool: Path) -> Environments:
    """Return the environments that the settings name. `pool` is the folder of past policies. Raises ConfigError."""
    if settings.env.id == "rocket":
        from trainer.online.selfplay.league import League

        return League(settings, num_envs, pool)
    return SingleEnvironments(settings, num_envs)
