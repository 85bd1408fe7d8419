"""A recorded environment for Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from benchmarks.learn.environments.recorded import RecordedEnv
from benchmarks.lib.sb3_vec_env import AgentsVecEnv
from schemas.contract import ContinuousActions


class RecordedVecEnv(AgentsVecEnv):
    """Stable-Baselines3's view of a recorded environment. Actions have the environment's own scale."""

    def __init__(self, env: RecordedEnv, action_scale: float) -> None:
        self._env, self._scale = env, np.float32(action_scale)
        space = env.contract.action_space
        action_space: gymnasium.Space[Any]
        if isinstance(space, ContinuousActions):
            low, high = np.array(space.low, np.float32), np.array(space.high, np.float32)
            action_space = gymnasium.spaces.Box(low * self._scale, high * self._scale, dtype=np.float32)
            self._is_discrete = False
        else:
            action_space = gymnasium.spaces.Discrete(space.n)
            self._is_discrete = True
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (env.contract.observation_size,), np.float32)
        super().__init__(env.n_agents, observation_space, action_space)

    def reset(self) -> VecEnvObs:
        """Start a new episode of all agents."""
        return self._env.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step; if an episode ended, the infos contain its true last observation."""
        return self.returned(self._env.step(self.in_policy_units(self._actions)))

    def in_policy_units(self, actions: Any) -> Any:
        """Return the actions [n, A] as the recorded environment expects them."""
        if self._is_discrete:
            return np.asarray(actions, np.float32).reshape(-1, 1)
        return np.asarray(actions, np.float32) / self._scale
