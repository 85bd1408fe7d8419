"""Rocket League as Gymnasium knows environments: one car, or many arenas at once. Needs the extra `rocket`.

env = RocketSimEnv()                         # one car against one that stands still
envs = RocketVectorEnv(32, blue=2, orange=2)  # 128 cars in 32 arenas
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from trainer.envs.gymnasium_vector import VectorEnvAdapter, spaces_of
from trainer.envs.rocket.vec_env import GameRules, RocketVecEnv

Float32 = npt.NDArray[np.float32]

WEIGHTS: Mapping[str, float] = {
    "goal": 10.0,
    "concede": -10.0,
    "touch": 1.0,
    "velocity_player_to_ball": 0.1,
    "velocity_ball_to_goal": 0.2,
    "boost": 0.002,
    "demo": 0.5,
    "align": 0.005,
    "aerial": 0.002,
}
"""What a reward part weighs where nothing else is said."""
_LARGEST = 10.0  #: no observation is beyond it
_STANDS_STILL = 8  #: of the lookup table: all controls at rest


def _rules(weights: Mapping[str, float] | None, *, discrete: bool, **rules: Any) -> GameRules:
    return GameRules(weights=WEIGHTS if weights is None else weights, discrete=discrete, **rules)


class RocketSimEnv(gymnasium.Env[Any, Any]):
    """One blue car; the others (a mate, up to two opponents) are driven by `others`, or stand still.

    `others` gets raw observations [n, 180] and gives actions [n, 8], or indices [n, 1] where `discrete`.
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
        self.games = RocketVecEnv(1, blue, orange, _rules(weights, discrete=discrete, **rules))
        self.observation_space, self.action_space = spaces_of(self.games.contract, _LARGEST)
        self._others, self._discrete = others, discrete
        self._seen: Float32 = np.zeros((0, 0), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Start a game."""
        super().reset(seed=seed, options=options)
        self._seen = self.games.reset(int(self.np_random.integers(2**31)))
        return self._seen[0], {}

    def step(self, action: Any) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Hold an action for `tick_skip` ticks. `info["reward_parts"]` has each part of the reward, weighted."""
        own = np.asarray(action, np.float32).reshape(1, -1)
        rest = self._seen[1:]
        if self._others is None or not len(rest):
            still = np.full((len(rest), own.shape[1]), _STANDS_STILL if self._discrete else 0.0, np.float32)
        else:
            still = np.asarray(self._others(rest), np.float32)
        step = self.games.step(np.concatenate([own, still]))
        self._seen = step.observation
        parts = {name: float(part[0]) for name, part in step.reward_parts.items()}
        over = bool(step.terminated[0]), bool(step.truncated[0])
        return step.next_observation[0], float(step.reward[0]), *over, {"reward_parts": parts}

    def close(self) -> None:
        """Let go of the arena."""
        self.games.close()


class RocketVectorEnv(VectorEnvAdapter):
    """`arenas` games; environment = arena * cars + car, blue before orange."""

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
