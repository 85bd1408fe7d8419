"""The racing game as a VecEnv, for online training and for code that imports it from `trainer`."""

from __future__ import annotations

from schemas.contract import ContinuousActions, PolicyContract
from trainer.envs.racing.simulation import RacingSimulation


class RacingVecEnv(RacingSimulation):
    """A `trainer.envs.vec_env.VecEnv` of n cars. `time_limit` is in steps of 0.1 s."""

    def __init__(self, n_agents: int, *, time_limit: int = 1000, track_seed: int = 0) -> None:
        super().__init__(n_agents, seed=0, time_limit=time_limit, track_seed=track_seed)
        self.contract = PolicyContract(
            observation_size=self.OBSERVATION_SIZE, action_space=ContinuousActions.named(self.ACTION_NAMES)
        )

    def close(self) -> None:
        """Do nothing: the game has no resources to free."""
