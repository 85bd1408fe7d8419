"""The run: play, learn, evaluate, keep, until the steps are done or somebody says stop.

What makes a resumed run the same as one that was never stopped: randomness is named by step and batch counts, and
after each checkpoint all episodes begin anew, so that a checkpoint need not hold the state of a simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from trainer.online.learner import OnlineLearner, ScheduledValues
from trainer.online.reporting.console import RunConsole

_LOSSES = ("total", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")


class OnlineRun:
    """One run in its folder. `stop` may be set at any time; the batch in hand is finished and kept."""

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
        kept = settings.checkpoints
        self._keeper = CheckpointManager(folder / "checkpoints", keep_newest=kept.keep_newest, keep_best=kept.keep_best)
        self.ground: Environments = make_environments(settings, num_envs, folder / "checkpoints" / "pool")
        self.learner = OnlineLearner(self.ground.env.contract, settings)
        self.progress, self._probe = RunProgress(), torch.zeros(0, 0)
        if from_checkpoint is not None:
            self.progress, self._probe = resume(from_checkpoint, self.learner)
            self.ground.restore(self.progress.ground)
        self.stop: Callable[[], bool] = lambda: False
        self.score: ReturnStatistics | None = None

    def train(self) -> RunProgress:
        """Train to the end, or until `stop` says so. Raises HotlapError or OSError."""
        progress, settings = self.progress, self.settings
        began_s, before_s = time.monotonic(), progress.seconds
        player: Collector | None = None
        while progress.steps < settings.run.total_steps and not self.stop():
            actor = Actor.of(self.learner.network, self.learner.normalisers, self.learner.contract)
            if self.ground.prepare(actor, progress.steps, progress.iteration) or player is None:
                player = self._begin()
            first = progress.steps
            self._batch(player, actor)
            progress.seconds = before_s + time.monotonic() - began_s
            self._evaluate(first)
            if _passed(first, progress.steps, settings.checkpoints.every_steps):
                self._save()
                player = None
            if self._solved():
                break
        progress.seconds = before_s + time.monotonic() - began_s
        self._save()
        if progress.steps >= settings.run.total_steps or self._solved():
            path = self._keeper.save_as("final_model", self.learner, progress, self._probe)
            self._console.line(f"done: {path.with_suffix('.json').as_posix()}")
        self.ground.close()
        return progress

    def _begin(self) -> Collector:
        """Start all episodes anew, from a seed that the step count names."""
        return Collector(self.ground.env, key_for(self.settings.run.seed, "episodes", self.progress.steps))

    def _batch(self, collector: Collector, actor: Actor) -> None:
        """Play one batch and learn from it."""
        progress, seed = self.progress, self.settings.run.seed
        began_s = time.perf_counter()
        rng = numpy_rng_for(seed, "act", progress.iteration)
        experiences = collector.collect(actor, self.settings.env.n_steps, rng)
        played_s = time.perf_counter()
        rates = ScheduledValues.at(progress.steps, self.settings)
        losses = self.learner.learn(experiences, progress.iteration, rates)
        learned_s = time.perf_counter()
        while self.learner.notes:
            self._console.line(self.learner.notes.pop(0))
        progress.steps += experiences.size
        progress.iteration += 1
        for name in _LOSSES:
            progress.history.setdefault(name, []).append(losses[name])
        if not len(self._probe) or progress.iteration % 50 == 0:
            rows = numpy_rng_for(seed, "probe", progress.iteration).permutation(experiences.size)[:8]
            self._probe = torch.from_numpy(experiences.observation_BO[np.sort(rows)])
        self.ground.played(progress.steps)
        numbers = {f"train/{name}": value for name, value in losses.items()}
        numbers |= {"train/learning_rate": rates.learning_rate, "train/entropy_coef": rates.entropy_coef}
        numbers |= {f"reward/{name}_mean": value for name, value in collector.part_means().items()}
        numbers |= {
            "speed/collect_per_s": experiences.size / (played_s - began_s),
            "speed/learn_per_s": experiences.size / (learned_s - played_s),
            "speed/steps_per_s": experiences.size / (learned_s - began_s),
        }
        episodes, collector.episodes = collector.episodes, []
        self._console.batch(progress.steps, numbers | self.ground.numbers(), episodes)

    def _evaluate(self, first: int) -> None:
        """Evaluate where it is due, and keep the model if it is the best so far."""
        given, progress = self.settings.evaluation, self.progress
        due = _passed(first, progress.steps, given.every_steps) or progress.steps >= self.settings.run.total_steps
        if not (given.every_steps and due):
            return
        actor = Actor.of(self.learner.network, self.learner.normalisers, self.learner.contract)
        self.score = self.ground.evaluate(actor)
        progress.last = self.score.lower_bound(given.confidence)
        is_best = progress.best is None or progress.last > progress.best or self.ground.stage > progress.stage
        progress.stage = self.ground.stage
        self._console.evaluated(progress.steps, self.score, progress.last, is_best=is_best)
        if is_best:
            progress.best = progress.last
            progress.ground = self.ground.state()
            self._keeper.save_as("best_model", self.learner, progress, self._probe)

    def _solved(self) -> bool:
        goal = self.settings.evaluation.stop_at
        return goal is not None and self.score is not None and self.score.mean >= goal

    def _save(self) -> None:
        self.progress.ground = self.ground.state()
        path = self._keeper.save(self.learner, self.progress, self._probe)
        self.ground.saved()
        self._console.line(f"checkpoint: {path.name}")


def _passed(first: int, last: int, every: int) -> bool:
    return every > 0 and first // every < last // every


def make_environments(settings: OnlineSettings, num_envs: int, pool: Any) -> Environments:
    """Make what the settings ask for. `pool` is the folder of past policies. Raises ConfigError."""
    if settings.env.id == "rocket":
        from trainer.online.selfplay.league import League

        return League(settings, num_envs, pool)
    return SingleEnvironments(settings, num_envs)
