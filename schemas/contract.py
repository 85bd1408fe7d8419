"""The contract of a policy: its observation size and its action space."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from schemas.base import StrictModel

KNOWN_BOUNDS = {"steer": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0)}
DEFAULT_BOUNDS = (-1.0, 1.0)
MAX_NAME = 128
"""Characters in the name of an action or a reward part."""
MAX_CHOICES = 1 << 16


class ContinuousActions(StrictModel):
    """Real-valued actions, in the order of the policy's outputs."""

    type: Literal["continuous"] = "continuous"
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def named(cls, names: tuple[str, ...]) -> ContinuousActions:
        """Return the space of these names with their usual bounds, from KNOWN_BOUNDS or DEFAULT_BOUNDS."""
        bounds = [KNOWN_BOUNDS.get(name, DEFAULT_BOUNDS) for name in names]
        return cls(names=names, low=tuple(low for low, _ in bounds), high=tuple(high for _, high in bounds))

    @property
    def output_size(self) -> int:
        """Return the number of outputs of the policy head."""
        return len(self.names)

    @property
    def width(self) -> int:
        """Return how many numbers a recorded action has."""
        return len(self.names)

    def in_words(self) -> str:
        """Return the space in words, for messages."""
        parts = (f"{n} [{lo:g}, {hi:g}]" for n, lo, hi in zip(self.names, self.low, self.high, strict=True))
        return ", ".join(parts)


class DiscreteActions(StrictModel):
    """One of `n` choices; the policy head computes `n` logits."""

    type: Literal["discrete"] = "discrete"
    n: Annotated[int, Field(ge=2)]

    @property
    def output_size(self) -> int:
        """Return the number of outputs of the policy head."""
        return self.n

    @property
    def width(self) -> int:
        """Return how many numbers a recorded action has."""
        return 1

    def in_words(self) -> str:
        """Return the space in words, for messages."""
        return f"one of {self.n} choices"


ActionSpace = Annotated[ContinuousActions | DiscreteActions, Field(discriminator="type")]


class PolicyContract(StrictModel):
    """The shape that every rollout and every model of a project must have."""

    observation_size: Annotated[int, Field(ge=1)]
    action_space: ActionSpace

    def digest(self) -> str:
        """Return a short hash over the observation size and the names, order, bounds and kind of the actions."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def has_outputs_of(self, other: PolicyContract) -> bool:
        """Return whether a network for `other` fits this contract as well: all but the bounds are equal."""
        space, others = self.action_space, other.action_space
        if self.observation_size != other.observation_size:
            return False
        if isinstance(space, ContinuousActions) and isinstance(others, ContinuousActions):
            return space.names == others.names
        return space == others

    def differences(self, other: PolicyContract) -> tuple[str, ...]:
        """Return in words how `other` differs from this contract; () if it does not."""
        found = []
        if other.observation_size != self.observation_size:
            found.append(f"{other.observation_size} observations instead of {self.observation_size}")
        if other.action_space != self.action_space:
            found.append(f"actions {other.action_space.in_words()} instead of {self.action_space.in_words()}")
        return tuple(found)
