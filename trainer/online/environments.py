"""The environments of a run, for training and for evaluation, and their number."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any, Protocol

import psutil

from schemas.contract import PolicyContract
from schemas.errors import ConfigError
from schemas.mirror import Mirror
from schemas.text import printable
from trainer.common.rng import key_for
from trainer.envs.gymnasium_env import GymnasiumVecEnv
from trainer.envs.racing.vec_env import MIRROR as RACING_MIRROR
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.envs.rocket.mirror import rocket_mirror
from trainer.envs.rocket.vec_env import GameRules
from trainer.envs.vec_env import VecEnv
from trainer.online.actor import Actor
from trainer.online.config import OnlineSettings
from trainer.online.evaluation.episodes import ReturnStatistics, evaluate


class Environments(Protocol):
    """The environments of a run. A checkpoint contains `state`, for a resumed run."""

    env: VecEnv
    stage: int  #: returns of different stages cannot be compared
    evaluates_in_turn: bool  #: evaluations use `env`, whose episodes are then lost
    notes: tuple[str, ...]  #: for the log

    def before_batch(self, actor: Actor, steps: int) -> bool:
        """Prepare for the batch of this policy after `steps` agent steps. Return whether `env` is a new one."""

    def after_batch(self) -> None:
        """Process the results of the batch."""

    def evaluate(self, actor: Actor, block: int, stop: Callable[[], bool]) -> ReturnStatistics | None:
        """Run a block of evaluation episodes; a block has the same seeds each time. Return None if `stop` is True."""

    def metrics(self) -> dict[str, float]:
        """Return values for the logs, by name; call it once for each batch."""

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors for `restore`."""

    def after_checkpoint(self) -> None:
        """Remove files that only checkpoints before the present state need."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""

    def close(self) -> None:
        """Close all environments."""


class SingleEnvironments:
    """The same kind of environment for the whole run. Checkpoints contain nothing of it."""

    def __init__(self, settings: OnlineSettings, num_envs: int) -> None:
        self._settings = settings
        self.stage = 0
        self.env: VecEnv = make_env(settings, num_envs)
        self.notes: tuple[str, ...] = ()
        self._evaluation_env = self._second_env()
        self.evaluates_in_turn = self._evaluation_env is None

    def _second_env(self) -> VecEnv | None:
        """Open the environments for evaluation, before anything can be lost; None if the training's ones are used."""
        evaluation = self._settings.evaluation
        if not (evaluation.separate and evaluation.every_steps):
            return None
        try:
            return make_env(self._settings, min(evaluation.episodes, 16))
        except Exception as error:  # noqa: BLE001  a simulator may exist only once, and says so in its own way
            cause = error.__cause__ or error
            reason = printable(f"{type(cause).__name__}: {cause}", limit=200)
            note = (
                f"{self._settings.env.id} cannot be opened a second time ({reason}): evaluations use the environments"
            )
            self.notes = (f"{note} of the training, whose episodes start again after each evaluation",)
            return None

    def before_batch(self, actor: Actor, steps: int) -> bool:
        """Return False: the environment stays the same."""
        del actor, steps
        return False

    def after_batch(self) -> None:
        """Do nothing."""

    def evaluate(self, actor: Actor, block: int, stop: Callable[[], bool]) -> ReturnStatistics | None:
        """Run episodes in separate environments, or in those of the training."""
        return evaluate_block(actor, self._evaluation_env or self.env, self._settings, block, stop)

    def metrics(self) -> dict[str, float]:
        """Return no values."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return no values."""
        return {}

    def after_checkpoint(self) -> None:
        """Do nothing."""

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
        if self._evaluation_env is not None:
            self._evaluation_env.close()


def evaluate_block(
    actor: Actor, env: VecEnv, settings: OnlineSettings, block: int, stop: Callable[[], bool], *, agents: int = 1
) -> ReturnStatistics | None:
    """Run a block of evaluation episodes, each of which counts for `agents` agents; None if `stop` returns True."""
    evaluation = settings.evaluation
    seed = key_for(settings.run.seed, "evaluation", *([block] if block else []))
    episodes = evaluation.episodes * agents
    return evaluate(actor, env, episodes=episodes, seed=seed, most_steps=evaluation.most_steps, stop=stop)


def make_env(settings: OnlineSettings, num_envs: int) -> VecEnv:
    """Return the racing game or a Gymnasium environment, as `env.id` names it. Raises ConfigError."""
    if settings.env.id == "racing":
        return RacingVecEnv(num_envs, time_limit=settings.env.time_limit)
    return GymnasiumVecEnv(settings.env.id, num_envs, workers=settings.env.workers, **settings.env.options)


def mirror_of(settings: OnlineSettings, contract: PolicyContract) -> Mirror | None:
    """Return the mirror that `[mirror]` describes, or the environment's own one; None if `train.mirror` is false.

    Raises ConfigError.
    """
    if not settings.train.mirror:
        return None
    declared = settings.mirror
    if not declared.is_set and settings.env.id == "racing":
        declared = RACING_MIRROR
    elif not declared.is_set and settings.env.id == "rocket":
        declared = rocket_mirror(discrete=settings.rocket.actions == "discrete")
    if not declared.is_set:
        hint = "describe its mirror in [mirror]; see `hotlap docs online`"
        raise ConfigError(f"train.mirror is true, but {settings.env.id} does not have a mirror of its own", hint=hint)
    try:
        return Mirror.of(declared, contract)
    except ValueError as error:
        raise ConfigError(f"mirror.{error}", hint="correct [mirror] in the config") from None


_BYTES = {"rocket": 8_000_000, "racing": 20_000}
"""Memory of one environment, with its part of a batch; see `learners.memory` for others, once they are open."""
_DEFAULTS, _OTHER_DEFAULT = {"rocket": 32, "racing": 64}, 8
"""Environments if the config does not set a number: enough for efficient matrix products."""


def choose_num_envs(settings: OnlineSettings) -> tuple[int, str]:
    """Return how many environments to run, and a line for the log if that is not the number in the config."""
    kind, configured = settings.env.id, settings.env.num_envs
    free_bytes = int(psutil.virtual_memory().available * 0.5)
    requested = configured or _DEFAULTS.get(kind, _OTHER_DEFAULT)
    limit = max(1, free_bytes // _BYTES[kind]) if kind in _BYTES else requested
    if settings.env.workers:
        limit = min(limit, 4 * (os.cpu_count() or 1), max(1, free_bytes // _worker_bytes()))
    chosen = min(requested, limit)
    if chosen < requested:
        reason = f"this machine has {free_bytes / 1e9:.1f} GB of free memory for it and {os.cpu_count()} CPU cores"
        return chosen, f"num_envs {requested} -> {chosen}: {reason}"
    return chosen, "" if configured else f"num_envs 0 -> {chosen} (set env.num_envs to choose)"


def _worker_bytes() -> int:
    """Return the memory of a worker's process: a forked one shares most of it with this process."""
    is_forked = multiprocessing.get_start_method() == "fork"
    return 10_000_000 if is_forked else psutil.Process().memory_info().rss


def game_rules(settings: OnlineSettings) -> GameRules:
    """Return the rules of Rocket League from the settings."""
    rocket = settings.rocket
    return GameRules(
        weights=settings.rewards.model_dump(),
        discrete=rocket.actions == "discrete",
        tick_skip=rocket.tick_skip,
        time_limit_s=rocket.time_limit_s,
        no_touch_s=rocket.no_touch_s,
        random_starts=rocket.random_starts,
    )
