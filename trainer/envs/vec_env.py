"""What online training asks of an environment: many agents that step together, each restarting by itself."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.contract import PolicyContract
from trainer.envs.racing.simulation import Step

__all__ = ["Step", "VecEnv"]


class VecEnv(Protocol):
    """n agents in some number of games. `step` starts anew, at once, whatever has just ended."""

    contract: PolicyContract
    n_agents: int

    def reset(self, seed: int) -> npt.NDArray[np.float32]:
        """Start every game anew; all that follows depends on `seed` and the actions alone. Gives [n, O]."""

    def step(self, action: npt.NDArray[np.float32]) -> Step:
        """Take actions [n, A] within their bounds, or choices [n, 1]; give what came of them."""

    def close(self) -> None:
        """Let go of what is held."""
