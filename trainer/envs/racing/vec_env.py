"""The racing game as a VecEnv, for online training and for code that imports it from `trainer`."""

from __future__ import annotations

from schemas.contract import ContinuousActions, PolicyContract
from schemas.settings.mirror import MirrorSettings
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.vec_env import Float32

MIRROR = MirrorSettings(
    observation_pairs=((5, 6), (7, 8)),  # the rays to the left and to the right
    observation_signs=(1, 3, 13),  # yaw rate, roll rate, gravity sideways
    action_signs=("steer",),
)
"""The racing game in a mirror."""


class RacingVecEnv(RacingSimulation):
    """A `trainer.envs.vec_env.VecEnv` of n cars. `time_limit` is in steps of 0.1 s."""

    def __init__(self, n_agents: int, *, time_limit: int = 1000, track_seed: int = 0) -> None:
        super().__init__(n_agents, seed=0, time_limit=time_limit, track_seed=track_seed)
        self.contract = PolicyContract(
            observation_size=self.OBSERVATION_SIZE, action_space=ContinuousActions.named(self.ACTION_NAMES)
        )

    def save_episodes(self) -> bytes:
        """Return the state of all cars."""
        return self.save_state()

    def load_episodes(self, state: bytes) -> Float32:
        """Restore what `save_episodes` saved and return the observations [n, 15]. Raises ValueError."""
        self.load_state(state)
        return self.observe()

    def close(self) -> None:
        """Do nothing: the game has no resources to free."""
