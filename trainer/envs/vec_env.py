"""The interface of the environments of online training: many agents that step together.

Array shapes use the letters N (agents), O (observation features) and A (action numbers). Arrays are float32 unless
stated otherwise; observations may be float64, and those of images are uint8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # the racing game needs numpy alone
    from schemas.contract import PolicyContract

__all__ = ["Float32", "Observations", "RepeatableVecEnv", "Step", "VecEnv"]

Float32 = npt.NDArray[np.float32]
Observations = npt.NDArray[Any]
"""float32, or float64 if float32 would round them too much, for example a clock.

Images [height, width, channels] are uint8, with all their numbers in one row.
"""
Bools = npt.NDArray[np.bool_]


class Step(NamedTuple):
    """The result of one step of N agents.

    If an agent's episode ended, its next episode has started already. `terminated` and `truncated` are never both true
    for an agent.
    """

    next_observation: Observations
    """[N, O]: the state that the action led to. After an end, this is the last observation of the ended episode."""
    observation: Observations
    """[N, O]: what to act on next: `next_observation`, or the first observation of a new episode after an end."""
    reward: Float32
    """[N]: the sum of `reward_parts`, if the environment has any. Rewards of about 1 per step learn best."""
    terminated: Bools
    """[N] of bool: the episode ended by the rules of the game. Nothing can be earned after this step."""
    truncated: Bools
    """[N] of bool: the episode was cut, for example by a time limit. The value of `next_observation` still counts."""
    reward_parts: dict[str, Float32]
    """Name to [N]: each part of the reward, already weighted, for the logs; can be empty."""


class VecEnv(Protocol):
    """N agents in one or more environments that step together; after an episode the next one starts automatically.

    Attributes:
        contract: The observation size O and the action space. The same for all agents, and constant.
        n_agents: The number of agents N; constant.
    """

    contract: PolicyContract
    n_agents: int

    def reset(self, seed: int) -> Observations:
        """Start new episodes in all environments.

        Args:
            seed: A number from 0 to 2**63 - 1. It and the actions must determine everything that follows, also if the
                environment was used before: a resumed run depends on this.

        Returns:
            The first observations, [N, O], not normalised.
        """

    def step(self, action: Float32) -> Step:
        """Advance all agents by one step.

        Args:
            action: [N, A] within the bounds of `contract.action_space`, or [N, 1] whole numbers from 0 to n - 1 if the
                action space is discrete.

        Returns:
            The result. Its arrays must not be changed by later calls.
        """

    def close(self) -> None:
        """Free processes, threads and memory. The environment is not used after this."""


@runtime_checkable
class RepeatableVecEnv(VecEnv, Protocol):
    """A VecEnv whose episodes can continue in another process: a resumed run then continues all of them.

    In a VecEnv without these methods, all episodes start again at a checkpoint, but not before each agent has ended
    one, so that long episodes have an end.
    """

    def save_episodes(self) -> bytes:
        """Return what `load_episodes` needs."""

    def load_episodes(self, state: bytes) -> Observations:
        """Continue the saved episodes and return the observations to act on next, [N, O].

        Raises ValueError if that is not possible.
        """
