"""Methods that Stable-Baselines3 requires of a vectorised environment, but agents of one game do not need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from trainer.envs.vec_env import Step


class AgentsVecEnv(VecEnv):
    """One game whose agents count as environments; subclasses add `reset`, `step_wait` and the spaces."""

    _actions: npt.NDArray[Any]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Store the actions."""
        self._actions = actions

    def returned(self, step: Step) -> VecEnvStepReturn:
        """Return what `step_wait` returns of a step; the infos contain the true last observation of ended episodes."""
        done = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i] = {
                "terminal_observation": step.next_observation[i],
                "TimeLimit.truncated": bool(step.truncated[i]),
            }
        return step.observation, step.reward, done, infos

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
