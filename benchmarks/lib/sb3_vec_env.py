"""What Stable-Baselines3 asks of every vectorised environment and a world of agents has nothing to say to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv


class AgentsVecEnv(VecEnv):
    """One world whose agents count as environments; `reset`, `step_wait` and the spaces are the world's."""

    _actions: npt.NDArray[Any]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep what to do."""
        self._actions = actions

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """No agent has attributes of its own; None for `render_mode` says that it draws no pictures."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """No agent has attributes of its own."""

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """No agent has methods of its own."""
        return []

    def env_is_wrapped(self, wrapper_class: Any, indices: int | Iterable[int] | None = None) -> list[bool]:
        """No agent is wrapped."""
        return [False] * self.num_envs
