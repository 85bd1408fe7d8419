"""A run: collect, learn, evaluate and save, until all steps are done or a stop is requested.

A resumed run ends in the same bits as one that was never stopped, for two reasons: all random numbers are derived from
step and batch counts, and all episodes start again after each checkpoint, so that a checkpoint does not need the state
of a simulator.
"""

from __future__ import annotations

import dataclasses
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
from trainer.online.evaluate import ReturnStatistics
from trainer.online.learners.choice import make_learner
from trainer.online.learners.ppo import ScheduledValues
from trainer.online.reporting.console import RunConsole
from trainer.online.start_from import start_from

_LOSSES = frozenset(
    ("total", "policy_loss", "value_loss", "critic_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
)


class OnlineRun:
    """One run in its folder. If `stop` returns True, the run finishes the current batch, saves and ends."""

    def __init__(
        self,
        settings: OnlineSettings,
        folder: Path,
        num_envs: int,
        console: RunConsole,
        *,
        from_checkpoint: Path | None,
    ) -> None:
        threads.limit_numpy_to_one_thread()
        threads.set_thread_count(settings.run.threads or 1)
        self.settings, self._console = settings, console
        limits = settings.checkpoints
        self._checkpoints = CheckpointManager(
            folder / "checkpoints", keep_newest=limits.keep_newest, keep_best=limits.keep_best
        )
        self.environments: Environments = make_environments(settings, num_envs, folder / "checkpoints" / "pool")
        self.learner = make_learner(self.environments.env.contract, settings)
        self.progress, self._probe = RunProgress(), torch.zeros(0, 0)
        if from_checkpoint is not None:
            self.progress, self._probe = resume(from_checkpoint, self.learner)
            self.environments.restore(self.progress.environments)
        elif settings.run.start_from:
            for line in start_from(Path(settings.run.start_from), self.learner):
                console.line(line)
        self.stop: Callable[[], bool] = lambda: False
        self.score: ReturnStatistics | None = None

    def train(self) -> RunProgress:
        """Train until the end, or until `stop` returns True. Raises HotlapError or OSError."""
        progress, settings = self.progress, self.settings
        began_s, seconds_before = time.monotonic(), progress.seconds
        collector: Collector | None = None
        while progress.steps < settings.run.total_steps and not self.stop():
            actor = Actor.of(self.learner.network, self.learner.normalisers, self.learner.contract)
            if self.environments.before_batch(actor, progress.steps) or collector is None:
                collector = self._start_collector()
            steps_before = progress.steps
            self._train_on_batch(collector, actor)
            progress.seconds = seconds_before + time.monotonic() - began_s
            self._evaluate_if_due(steps_before)
            if _contains_multiple(steps_before, progress.steps, settings.checkpoints.every_steps):
                self._save_checkpoint()
                collector = None
            if self._has_reached_goal():
                break
        progress.seconds = seconds_before + time.monotonic() - began_s
        self._save_checkpoint()
        if progress.steps >= settings.run.total_steps or self._has_reached_goal():
            path = self._checkpoints.save_as("final_model", self.learner, progress, self._probe)
            self._console.line(f"done: {path.with_suffix('.json').as_posix()}")
        self.environments.close()
        return progress

    def _start_collector(self) -> Collector:
        """Start new episodes in all environments, from a seed that depends on the step count."""
        return Collector(self.environments.env, key_for(self.settings.run.seed, "episodes", self.progress.steps))

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
        self._console.show_batch(progress.steps, metrics | self.environments.metrics(), episodes)

    def _evaluate_if_due(self, steps_before: int) -> None:
        """Evaluate if it is due, and save the model if it is the best so far."""
        evaluation, progress = self.settings.evaluation, self.progress
        is_due = _contains_multiple(steps_before, progress.steps, evaluation.every_steps)
        is_last = progress.steps >= self.settings.run.total_steps
        if not (evaluation.every_steps and (is_due or is_last)):
            return
        actor = Actor.of(self.learner.network, self.learner.normalisers, self.learner.contract)
        self.score = self.environments.evaluate(actor)
        progress.last = self.score.lower_bound(evaluation.confidence)
        is_best = progress.best is None or progress.last > progress.best or self.environments.stage > progress.stage
        progress.stage = self.environments.stage
        self._console.show_evaluation(progress.steps, self.score, progress.last, is_best=is_best)
        if is_best:
            progress.best = progress.last
            progress.environments = self.environments.state()
            self._checkpoints.save_as("best_model", self.learner, progress, self._probe)

    def _has_reached_goal(self) -> bool:
        goal = self.settings.evaluation.stop_at
        return goal is not None and self.score is not None and self.score.mean >= goal

    def _save_checkpoint(self) -> None:
        self.progress.environments = self.environments.state()
        path = self._checkpoints.save(self.learner, self.progress, self._probe)
        self.environments.after_checkpoint()
        self._console.line(f"checkpoint: {path.name}")


def _contains_multiple(before: int, after: int, every: int) -> bool:
    """Return whether a multiple of `every` is in (before, after]."""
    return every > 0 and before // every < after // every


def make_environments(settings: OnlineSettings, num_envs: int, pool: Path) -> Environments:
    """Return the environments that the settings name. `pool` is the folder of past policies. Raises ConfigError."""
    if settings.env.id == "rocket":
        from trainer.online.selfplay.league import League

        return League(settings, num_envs, pool)
    return SingleEnvironments(settings, num_envs)
