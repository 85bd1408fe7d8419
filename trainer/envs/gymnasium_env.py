"""Any registered Gymnasium environment with array observations, through Gymnasium's own vector environments.

A policy's mean is in [-1, 1]; a bounded action is scaled from [-1, 1] to the environment's own range.
"""

from __future__ import annotations

import multiprocessing
import signal
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import ActionSpace, ContinuousActions, DiscreteActions, PolicyContract
from schemas.errors import ConfigError
from schemas.program.commands import install_command
from trainer.common.user_code import search_current_folder
from trainer.envs.vec_env import Float32, Step


def gymnasium() -> Any:
    """Import Gymnasium. Raises ConfigError (E_EXTRA) if it is not installed."""
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
        hint = "use racing, rocket or an id that is registered with Gymnasium"
        raise ConfigError(f"the environment {name} does not exist: {error}", hint=hint, code="E_ENV") from None


def _leave_end_to_parent(env: Any) -> Any:
    """Let a worker's process ignore Ctrl-C and a closed terminal, which the console sends to it as well.

    The run then ends after its current batch, for which it needs the workers. They end with their parent.
    """
    if multiprocessing.parent_process() is not None:
        for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    return env


class GymnasiumVecEnv:
    """A `trainer.envs.vec_env.VecEnv` of n copies of one environment; each copy has one agent.

    With `workers` each copy runs in its own process: faster if a step takes more than about 0.1 ms. Other `options` are
    those of `gymnasium.make_vec`.
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
                wrappers=(*options.pop("wrappers", ()), *((_leave_end_to_parent,) if workers else ())),
                vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
                **options,
            )
        except gym.error.Error as error:
            hint = "set env.id to racing, rocket or an id that is registered with Gymnasium"
            message = f"Gymnasium cannot make the environment {name}: {error}"
            raise ConfigError(message, hint=hint, code="E_ENV") from None
        self.n_agents = n_agents
        space = self._envs.single_observation_space
        if not isinstance(space, gym.spaces.Box):
            hint = "use an environment whose observations are one array of numbers, or a wrapper that returns one"
            message = f"the observations of {name} are a {type(space).__name__} space, not a Box"
            raise ConfigError(message, hint=hint, code="E_ENV")
        self.contract = PolicyContract(
            observation_size=int(np.prod(space.shape)),
            action_space=self._convert_action_space(name, self._envs.single_action_space),
        )

    def _convert_action_space(self, name: str, space: Any) -> ActionSpace:
        """Return the policy's action space, and store how its actions become those of the environment."""
        gym = gymnasium()
        if isinstance(space, gym.spaces.Discrete):
            self._first_action = int(space.start)
            return DiscreteActions(n=int(space.n))
        if isinstance(space, gym.spaces.Box):
            self._shape = space.shape
            self._low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float32).reshape(-1)
            self._high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float32).reshape(-1)
            return ContinuousActions.named(tuple(f"action_{i}" for i in range(len(self._low))))
        hint = "use an environment whose actions are Discrete or Box"
        raise ConfigError(f"the actions of {name} are a {type(space).__name__} space", hint=hint, code="E_ENV")

    def reset(self, seed: int) -> Float32:
        """Start every copy, each with its own seed, and return the observations [n, O]."""
        seeds = np.random.SeedSequence(seed).generate_state(self.n_agents)
        observation, _ = self._envs.reset(seed=[int(s) for s in seeds])
        return self._flatten(observation)

    def step(self, action: Float32) -> Step:
        """Advance each copy by one step. `action` is [n, A] in [-1, 1], or [n, 1] choices from 0."""
        converted: npt.NDArray[Any]
        if isinstance(self.contract.action_space, DiscreteActions):
            converted = action[:, 0].astype(np.int64) + self._first_action
        else:
            scaled = self._low + (action + 1.0) * 0.5 * (self._high - self._low)
            converted = scaled.astype(np.float32).reshape(self.n_agents, *self._shape)
        observation, reward, terminated, truncated, info = self._envs.step(converted)
        current = self._flatten(observation)
        ended = terminated | truncated
        successor = current
        if ended.any():
            successor = current.copy()
            for agent in np.flatnonzero(ended):
                successor[agent] = np.asarray(info["final_obs"][agent], np.float32).reshape(-1)
        return Step(successor, current, np.asarray(reward, np.float32), terminated, truncated & ~terminated, {})

    def _flatten(self, observation: Any) -> Float32:
        return np.array(observation, np.float32).reshape(self.n_agents, -1)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return an RGB image [height, width, 3] of the first copy, which needs the option render_mode="rgb_array".

        Raises ConfigError (E_EXTRA) if the environment cannot be rendered.
        """
        gym = gymnasium()
        try:
            return np.asarray(self._envs.render()[0], np.uint8)
        except (gym.error.Error, TypeError) as error:
            hint = "install what the environment needs for rendering; see its documentation"
            raise ConfigError(f"the environment cannot be rendered: {error}", hint=hint, code="E_EXTRA") from None

    def close(self) -> None:
        """Close every copy."""
        self._envs.close()
