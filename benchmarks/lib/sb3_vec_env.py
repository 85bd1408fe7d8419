"""Methods that Stable-Baselines3 requires of a vectorised environment, but agents of one game do not need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv


class AgentsVecEnv(VecEnv):
    """One game whose agents count as environments; subclasses add `reset`, `step_wait` and the spaces."""

    _actions: npt.NDArray[Any]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Store the actions."""
        self._actions = actions

    def close(self) -> None:
        """Do nothing."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Return None for `render_mode`; agents have no attributes."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Do nothing: agents have no attributes."""

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """Return nothing: agents have no methods."""
        return []

    def env_is_wrapped(self, wrapper_class: Any, indices: int | Iterable[int] | None = None) -> list[bool]:
        """Return False for each agent."""
        return [False] * self.num_envs
