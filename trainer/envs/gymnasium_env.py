"""Any registered Gymnasium environment with flat observations, through Gymnasium's own vectorisation.

A policy's mean lies in [-1, 1]; a bounded action is stretched from there to the environment's own range.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import ActionSpace, ContinuousActions, DiscreteActions, PolicyContract
from schemas.errors import ConfigError
from schemas.program.commands import install_command
from trainer.common.user_code import search_current_folder
from trainer.envs.vec_env import Step

Float32 = npt.NDArray[np.float32]


def gymnasium() -> Any:
    """Import Gymnasium. Raises ConfigError (E_EXTRA) where it is missing."""
    try:
        import gymnasium
    except ImportError:
        raise ConfigError("gymnasium is not installed", hint=install_command("online"), code="E_EXTRA") from None
    return gymnasium


def check_id(name: str) -> None:
    """Raise ConfigError (E_ENV) if Gymnasium does not know an environment; `module:id` imports the module first."""
    gym = gymnasium()
    module, _, known_name = name.rpartition(":")
    try:
        if module:
            search_current_folder()
            import_module(module)
        gym.spec(known_name)
    except (gym.error.Error, ImportError) as error:
        hint = "use racing, rocket or an id that gymnasium.make knows"
        raise ConfigError(f"there is no environment {name}: {error}", hint=hint, code="E_ENV") from None


class GymnasiumVecEnv:
    """A `trainer.envs.vec_env.World` of n copies of one environment. `workers` > 0 steps them in processes of their own,
    which pays where one step costs more than about a tenth of a millisecond.
    """

    def __init__(self, name: str, n_agents: int, *, workers: bool = False, **options: Any) -> None:
        gym = gymnasium()
        if ":" in name:
            search_current_folder()
        try:
            self._envs = gym.make_vec(
                name,
                num_envs=n_agents,
                vectorization_mode="async" if workers else "sync",
                vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
                **options,
            )
        except gym.error.Error as error:
            hint = "use racing, rocket or an id that gymnasium.make knows"
            raise ConfigError(f"the environment {name} cannot be made: {error}", hint=hint, code="E_ENV") from None
        self.n_agents = n_agents
        space = self._envs.single_observation_space
        if not isinstance(space, gym.spaces.Box):
            hint = "wrap it so that observations are one array of numbers"
            raise ConfigError(f"{name} has observations of kind {type(space).__name__}", hint=hint, code="E_ENV")
        self.contract = PolicyContract(
            observation_size=int(np.prod(space.shape)), action_space=self._actions(name, self._envs.single_action_space)
        )

    def _actions(self, name: str, space: Any) -> ActionSpace:
        """Say what the policy's actions are, and keep how they become the environment's."""
        gym = gymnasium()
        if isinstance(space, gym.spaces.Discrete):
            self._first = int(space.start)
            return DiscreteActions(n=int(space.n))
        if isinstance(space, gym.spaces.Box):
            self._shape = space.shape
            self._low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float32).reshape(-1)
            self._high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float32).reshape(-1)
            return ContinuousActions.named(tuple(f"action_{i}" for i in range(len(self._low))))
        hint = "actions must be Discrete or Box"
        raise ConfigError(f"{name} has actions of kind {type(space).__name__}", hint=hint, code="E_ENV")

    def reset(self, seed: int) -> Float32:
        """Seed and start every copy; copy i gets its own seed."""
        seeds = np.random.SeedSequence(seed).generate_state(self.n_agents)
        observation, _ = self._envs.reset(seed=[int(s) for s in seeds])
        return self._flat(observation)

    def step(self, action: Float32) -> Step:
        """Take one step in each copy."""
        given: npt.NDArray[Any]
        if isinstance(self.contract.action_space, DiscreteActions):
            given = action[:, 0].astype(np.int64) + self._first
        else:
            stretched = self._low + (action + 1.0) * 0.5 * (self._high - self._low)
            given = stretched.astype(np.float32).reshape(self.n_agents, *self._shape)
        observation, reward, terminated, truncated, info = self._envs.step(given)
        now = self._flat(observation)
        ended = terminated | truncated
        following = now
        if ended.any():
            following = now.copy()
            for agent in np.flatnonzero(ended):
                following[agent] = np.asarray(info["final_obs"][agent], np.float32).reshape(-1)
        return Step(following, now, np.asarray(reward, np.float32), terminated, truncated & ~terminated, {})

    def _flat(self, observation: Any) -> Float32:
        return np.array(observation, np.float32).reshape(self.n_agents, -1)

    def picture(self) -> npt.NDArray[np.uint8]:
        """Return an RGB picture of the first copy; it must have been made with render_mode="rgb_array"."""
        gym = gymnasium()
        try:
            return np.asarray(self._envs.render()[0], np.uint8)
        except (gym.error.Error, TypeError) as error:
            raise ConfigError(f"it cannot be drawn: {error}", hint="see its documentation", code="E_EXTRA") from None

    def close(self) -> None:
        """Close every copy."""
        self._envs.close()
