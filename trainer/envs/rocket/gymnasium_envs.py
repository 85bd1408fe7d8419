"""Rocket League as Gymnasium environments: one car, or many arenas at once. Needs the extra `rocket`.

env = RocketSimEnv()                          # one car against one that does not move
envs = RocketVectorEnv(32, blue=2, orange=2)  # 128 cars in 32 arenas
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from trainer.envs.gymnasium_vector import VectorEnvAdapter, spaces_of
from trainer.envs.rocket.rewards import RewardWeights
from trainer.envs.rocket.vec_env import GameRules, RocketVecEnv
from trainer.envs.vec_env import Float32

_LARGEST = 10.0  #: bound on the absolute value of observations
_IDLE_ACTION = 8  #: index in the lookup table: all controls are 0


def _rules(weights: Mapping[str, float] | None, *, discrete: bool, **rules: Any) -> GameRules:
    return GameRules(weights=RewardWeights().model_dump() if weights is None else weights, discrete=discrete, **rules)


class RocketSimEnv(gymnasium.Env[Any, Any]):
    """One blue car is the agent. The others (a teammate, up to two opponents) are driven by `others` or do not move.

    `others` takes observations [n, 180] and returns actions [n, 8], or indices [n, 1] if `discrete`. `weights` maps
    reward parts to weights; default: those of `RewardWeights`. `rules` are other fields of `GameRules`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        *,
        blue: int = 1,
        orange: int = 1,
        discrete: bool = False,
        weights: Mapping[str, float] | None = None,
        others: Callable[[Float32], Float32] | None = None,
        **rules: Any,
    ) -> None:
        self._env = RocketVecEnv(1, blue, orange, _rules(weights, discrete=discrete, **rules))
        self.observation_space, self.action_space = spaces_of(self._env.contract, _LARGEST)
        self._others, self._discrete = others, discrete
        self._observation: Float32 = np.zeros((0, 0), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed, options=options)
        self._observation = self._env.reset(int(self.np_random.integers(2**31)))
        return self._observation[0], {}

    def step(self, action: Any) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Hold an action for `tick_skip` ticks. `info["reward_parts"]` contains each part of the reward, weighted."""
        agent_action = np.asarray(action, np.float32).reshape(1, -1)
        other_observations = self._observation[1:]
        if self._others is None or not len(other_observations):
            idle = _IDLE_ACTION if self._discrete else 0.0
            other_actions = np.full((len(other_observations), agent_action.shape[1]), idle, np.float32)
        else:
            other_actions = np.asarray(self._others(other_observations), np.float32)
        step = self._env.step(np.concatenate([agent_action, other_actions]))
        self._observation = step.observation
        parts = {name: float(part[0]) for name, part in step.reward_parts.items()}
        ended = bool(step.terminated[0]), bool(step.truncated[0])
        return step.next_observation[0], float(step.reward[0]), *ended, {"reward_parts": parts}

    def close(self) -> None:
        """Close the arena."""
        self._env.close()


class RocketVectorEnv(VectorEnvAdapter):
    """`arenas` games; environment = arena * cars + car, blue before orange. For the options see `RocketSimEnv`."""

    def __init__(
        self,
        arenas: int,
        *,
        blue: int = 1,
        orange: int = 1,
        discrete: bool = False,
        weights: Mapping[str, float] | None = None,
        **rules: Any,
    ) -> None:
        super().__init__(RocketVecEnv(arenas, blue, orange, _rules(weights, discrete=discrete, **rules)))
