"""Variants of the racing game: a car that pulls to one side, and rewards only at gates."""

from __future__ import annotations

import numpy as np

from trainer.envs.racing.car import STEP_S
from trainer.envs.racing.simulation import REWARD_SPEED
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.envs.vec_env import Float32, Step

GATE_M = 20.0  #: metres of track between two gates
_PULL = 0.15  #: part of the full lock by which the wheels turn to the right by themselves
_LEFT = 0.7  #: part of the full lock to which the car can steer to the left
_DISTANCE = 0.7 / (REWARD_SPEED * STEP_S)  #: reward part `distance` per metre


class PullingCarVecEnv(RacingVecEnv):
    """A car that pulls to the right and steers less to the left: its mirror image is another car."""

    def step(self, action: Float32) -> Step:  # type: ignore[override]
        """Drive with the bent steering."""
        bent = np.array(action, np.float32)
        steer = np.clip(bent[:, 0], -1.0, 1.0)
        bent[:, 0] = np.clip(np.where(steer < 0.0, _LEFT * steer, steer) + _PULL, -1.0, 1.0)
        return super().step(bent)


class GatesVecEnv(RacingVecEnv):
    """The racing game with a reward of 1 at each gate that an episode passes for the first time, and nothing else."""

    def __init__(self, n_agents: int, *, time_limit: int = 1000, track_seed: int = 0) -> None:
        self._metres, self._gates = np.zeros(n_agents), np.zeros(n_agents, np.int64)
        super().__init__(n_agents, time_limit=time_limit, track_seed=track_seed)

    def reset(self, seed: int | None = None) -> Float32:
        """Start new episodes; no gate is passed yet."""
        self._metres[:], self._gates[:] = 0.0, 0
        return super().reset(seed)

    def step(self, action: Float32) -> Step:  # type: ignore[override]
        """Drive, and count the gates that are passed for the first time in the episode."""
        step = super().step(action)
        self._metres += step.reward_parts["distance"] / _DISTANCE
        passed = np.maximum((self._metres // GATE_M).astype(np.int64) - self._gates, 0)
        self._gates += passed
        ended = step.terminated | step.truncated
        self._metres[ended], self._gates[ended] = 0.0, 0
        reward = passed.astype(np.float32)
        return step._replace(reward=reward, reward_parts={"gate": reward})
