"""Where a run plays: the worlds for training and for evaluation, and what changes about them as it goes on."""

from __future__ import annotations

import os
from typing import Any, Protocol

import psutil

from trainer.common.rng import key_for
from trainer.envs.gymnasium_env import GymnasiumVecEnv
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.envs.rocket.vec_env import GameRules
from trainer.envs.vec_env import VecEnv
from trainer.online.actor import Actor
from trainer.online.config import OnlineSettings
from trainer.online.evaluate import ReturnStatistics, evaluate


class Environments(Protocol):
    """What a run knows of its worlds. `state` and `restore` carry over what a resumed run must find again."""

    env: VecEnv
    stage: int  #: returns of different stages cannot be compared

    def before_batch(self, actor: Actor, steps: int, iteration: int) -> bool:
        """Get ready for one batch with this policy; true where the world is another one now."""

    def after_batch(self, steps: int) -> None:
        """Take note of a batch that is over."""

    def evaluate(self, actor: Actor) -> ReturnStatistics:
        """Play evaluation episodes."""

    def metrics(self) -> dict[str, float]:
        """Return what the logs show of it, by name."""

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors."""

    def after_checkpoint(self) -> None:
        """Take note that a checkpoint with the present state is on disk."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave."""

    def close(self) -> None:
        """Let go of the worlds."""


class SingleEnvironments:
    """One kind of world from the first step to the last."""

    def __init__(self, settings: OnlineSettings, num_envs: int) -> None:
        self._settings = settings
        self.stage = 0
        self.env: VecEnv = make_env(settings, num_envs)
        self._separate: VecEnv | None = None

    def prepare(self, actor: Actor, steps: int, iteration: int) -> bool:
        """There is nothing to prepare."""
        del actor, steps, iteration
        return False

    def played(self, steps: int) -> None:
        """Nothing changes."""

    def evaluate(self, actor: Actor) -> ReturnStatistics:
        """Play in worlds of their own, the same each time."""
        given = self._settings.evaluation
        if self._separate is None:
            self._separate = make_env(self._settings, min(given.episodes, 16))
        seed = key_for(self._settings.run.seed, "evaluation")
        return evaluate(actor, self._separate, episodes=given.episodes, seed=seed)

    def numbers(self) -> dict[str, float]:
        """There are none."""
        return {}

    def state(self) -> dict[str, Any]:
        """There is nothing to keep."""
        return {}

    def saved(self) -> None:
        """There is nothing to tidy up."""

    def restore(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""

    def close(self) -> None:
        """Close both."""
        self.env.close()
        if self._separate is not None:
            self._separate.close()


def make_env(settings: OnlineSettings, num_envs: int) -> VecEnv:
    if settings.env.id == "racing":
        return RacingVecEnv(num_envs, time_limit=settings.env.time_limit)
    return GymnasiumVecEnv(settings.env.id, num_envs, workers=settings.env.workers)


_OTHER_BYTES, _OTHER_USUAL = 50_000_000, 8
_BYTES = {"rocket": 8_000_000, "racing": 20_000}
"""Memory an environment takes, with its part of a batch."""


_USUAL = {"rocket": 32, "racing": 64}
"""Environments where the config leaves it open: enough for matrix products that pay."""


def choose_num_envs(settings: OnlineSettings) -> tuple[int, str]:
    """Return how many environments to run, and a line that says so where the config did not."""
    kind, wanted = settings.env.id, settings.env.num_envs
    bytes_each = _BYTES.get(kind, _OTHER_BYTES)
    free = int(psutil.virtual_memory().available * 0.5)
    most = max(1, free // bytes_each)
    if settings.env.workers:
        most = min(most, 4 * (os.cpu_count() or 1))
    usual = wanted or _USUAL.get(kind, _OTHER_USUAL)
    given = min(usual, most)
    if given < usual:
        return given, f"num_envs {usual} -> {given}: this machine has {free / 1e9:.1f} GB to spare"
    return given, "" if wanted else f"num_envs 0 -> {given} (set env.num_envs to choose)"


def game_rules(settings: OnlineSettings) -> GameRules:
    """Return the game's rules as the settings have them."""
    given = settings.rocket
    return GameRules(
        weights=settings.rewards.model_dump(),
        discrete=given.actions == "discrete",
        tick_skip=given.tick_skip,
        time_limit_s=given.time_limit_s,
        no_touch_s=given.no_touch_s,
        random_starts=given.random_starts,
    )
