"""rlgym's Rocket League environment for Stable-Baselines3: one environment per car; the arenas are stepped in turn."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from benchmarks.lib.sb3_vec_env import AgentsVecEnv
from benchmarks.online.rlgym_game import make_env


class RlgymVecEnv(AgentsVecEnv):
    """`arenas` games, two cars each."""

    def __init__(self, arenas: int) -> None:
        self._envs = [make_env() for _ in range(arenas)]
        first = self._envs[0].reset()
        self._size = len(next(iter(first.values())))
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._size,), np.float32)
        super().__init__(2 * arenas, observation_space, gymnasium.spaces.Discrete(90))

    def reset(self) -> npt.NDArray[np.float32]:
        """Reset every game."""
        return np.concatenate([self._rows(env.reset()) for env in self._envs])

    def _rows(self, by_agent: dict[str, Any]) -> npt.NDArray[np.float32]:
        return np.array(list(by_agent.values()), np.float32)

    def step_wait(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        """Step every game."""
        rows, rewards, dones, infos = [], [], [], []
        for i, env in enumerate(self._envs):
            agents = env.agents
            actions = {agent: np.array([self._actions[2 * i + k]]) for k, agent in enumerate(agents)}
            observation, reward, terminated, truncated = env.step(actions)
            over = any(terminated.values()) or any(truncated.values())
            last = self._rows(observation)
            rewards += [reward[agent] for agent in agents]
            dones += [over] * 2
            infos += [
                {"terminal_observation": row, "TimeLimit.truncated": not any(terminated.values())} if over else {}
                for row in last
            ]
            rows.append(self._rows(env.reset()) if over else last)
        return np.concatenate(rows), np.array(rewards, np.float32), np.array(dones), infos

    def close(self) -> None:
        """Close every game."""
        for env in self._envs:
            env.close()
