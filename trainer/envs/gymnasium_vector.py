"""Any VecEnv as a Gymnasium vector environment, for other libraries; needs Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from schemas.contract import ContinuousActions, PolicyContract
from trainer.envs.vec_env import VecEnv

Array = npt.NDArray[Any]


def spaces_of(contract: PolicyContract, largest: float = np.inf) -> tuple[gymnasium.spaces.Box, gymnasium.Space[Any]]:
    """Return the observation and the action space of one agent. `largest` bounds the absolute value of observations."""
    observation_space = gymnasium.spaces.Box(-largest, largest, (contract.observation_size,), np.float32)
    space = contract.action_space
    if isinstance(space, ContinuousActions):
        low, high = np.array(space.low, np.float32), np.array(space.high, np.float32)
        return observation_space, gymnasium.spaces.Box(low, high, dtype=np.float32)
    return observation_space, gymnasium.spaces.Discrete(space.n)


class VectorEnvAdapter(VectorEnv[Any, Any, Any]):
    """One Gymnasium environment for each agent. The step that ends an episode also starts the next one.

    `info["final_obs"]` then contains the last observation of the ended episode. `info["reward_parts"]` contains each
    part of the reward, [num_envs].
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, env: VecEnv) -> None:
        self.env, self.num_envs = env, env.n_agents
        self.single_observation_space, self.single_action_space = spaces_of(env.contract)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start new episodes. A list of seeds is combined into one seed."""
        del options
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        elif not isinstance(seed, int):
            seed = int(np.random.SeedSequence([int(s or 0) for s in seed]).generate_state(1)[0])
        return self.env.reset(seed), {}

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Advance all agents by one step."""
        array = np.asarray(actions, np.float32)
        step = self.env.step(array[:, None] if array.ndim == 1 else array)
        info: dict[str, Any] = {"reward_parts": step.reward_parts}
        ended = step.terminated | step.truncated
        if ended.any():
            final = np.empty(self.num_envs, dtype=object)
            for agent in np.flatnonzero(ended):
                final[agent] = step.next_observation[agent]
            info |= {"final_obs": final, "_final_obs": ended}
        return step.observation, step.reward, step.terminated, step.truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Close the VecEnv."""
        del kwargs
        self.env.close()
