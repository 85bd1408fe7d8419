"""What online training asks of an environment: many agents that step together, each restarting by itself."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from schemas.contract import PolicyContract
from trainer.envs.racing.track import Floats32

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


class Step(NamedTuple):
    """One step of n agents, [n] or [n, 15] each. `terminated` and `truncated` never stand together."""

    next_observation: Floats32  #: the true successor, also where an episode just ended
    observation: Floats32  #: where the next step starts: `next_observation`, or a fresh start after an end
    reward: Floats32  #: the sum of the parts; about 0 to 1, and about -1 in a crash
    terminated: NDArray[np.bool_]  #: crashed: worth nothing from here on
    truncated: NDArray[np.bool_]  #: time is up: worth what the true successor is worth
    reward_parts: dict[str, Floats32]  #: name to [n]
