"""The racing world as online training and Gymnasium's vector environments want it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, PolicyContract
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.vec_env import Step


class RacingVecEnv:
    """A `trainer.envs.vec_env.World` of n cars. `time_limit` is in steps of 0.1 s."""

    def __init__(self, n_agents: int, *, time_limit: int = 1000, track_seed: int = 0) -> None:
        self.contract = PolicyContract(
            observation_size=RacingSimulation.OBSERVATION_SIZE,
            action_space=ContinuousActions.named(RacingSimulation.ACTION_NAMES),
        )
        self.n_agents = n_agents
        self._time_limit, self._track_seed = time_limit, track_seed
        self._world = self._make(0)

    def _make(self, seed: int) -> RacingSimulation:
        return RacingSimulation(self.n_agents, seed=seed, time_limit=self._time_limit, track_seed=self._track_seed)

    def reset(self, seed: int) -> npt.NDArray[np.float32]:
        """Put every car at a random place."""
        self._world = self._make(seed)
        return self._world.observe()

    def step(self, action: npt.NDArray[np.float32]) -> Step:
        """Drive for 0.1 s."""
        return self._world.step(action)

    def close(self) -> None:
        """There is nothing to let go of."""
