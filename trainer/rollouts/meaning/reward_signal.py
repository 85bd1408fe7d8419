"""Whether rewards carry information about actions. If they do not, a policy step would only follow noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.rollout.rollout import Bools, Float32
from trainer.common.reporting.reporter import Notices
from trainer.common.shapes import Float64

_ROUNDING = 1e-6
"""Differences below this part of the largest number are rounding errors of float32."""
_SPARSE = 0.01
"""Rewards are sparse if a smaller share of the steps than this differs from the others."""
REMEDY = (
    "what helps is a reward for progress toward the goal, more exploration noise in the engine (noise_std), or "
    "demonstrations (see `hotlap docs dagger`)"
)


@dataclass(frozen=True, slots=True)
class RewardSignal:
    """What the rewards of some experiences say about actions."""

    usual: float  #: the median reward
    is_constant: bool  #: every reward is the usual one, up to rounding
    is_missing: bool  #: no action can make a difference that these experiences show
    better: float  #: the share of the steps that something better than usual followed
    other: float  #: the share of the steps that something other than usual followed

    @classmethod
    def of(cls, reward_B: Float32, terminated_B: Bools) -> RewardSignal:
        """Return the signal of one or more experiences.

        The end of an episode ends its rewards. So with a constant reward other than 0, the length of an episode counts:
        a negative one makes an end better than usual, a positive one worse.
        """
        usual = float(np.median(reward_B))
        difference_B = reward_B.astype(np.float64) - usual
        rounding = _ROUNDING * float(np.abs(reward_B).max())
        is_constant = bool((np.abs(difference_B) <= rounding).all())
        better_B = (difference_B > rounding) | (terminated_B & (usual < 0.0))
        other_B = (np.abs(difference_B) > rounding) | (terminated_B & (usual != 0.0))
        return cls(usual, is_constant, not other_B.any(), better=float(better_B.mean()), other=float(other_B.mean()))

    @property
    def is_sparse(self) -> bool:
        """Return whether hardly any step differs from the others, and some of these are better."""
        return self.better > 0.0 and self.other < _SPARSE


def is_rounding(advantage_B: Float64, value_B: Float64, reward_B: Float32) -> bool:
    """Return whether advantages differ by no more than the rounding errors of the numbers they are computed from."""
    largest = max(float(np.abs(value_B).max()), float(np.abs(reward_B).max()))
    return float(advantage_B.std()) <= _ROUNDING * largest


def report(signal: RewardSignal, *, steps: int, keeps_policy: bool, notices: Notices) -> None:
    """Send a notice if rewards are constant, carry no information or are sparse."""
    usual = f"{signal.usual:g}"
    if keeps_policy:
        fact = f"every reward is {usual}" if signal.is_constant else "all advantages are rounding errors"
        notices.send(
            "W_CONSTANT_REWARD",
            f"{fact}, so no action is better than another: this cycle leaves the policy as it is and trains only the "
            f"value function; {REMEDY}",
        )
    elif signal.is_constant:
        direction = "longer" if signal.usual > 0.0 else "shorter"
        notices.send(
            "W_CONSTANT_REWARD", f"every reward is {usual}: the policy can only learn to make episodes {direction}"
        )
    elif signal.is_sparse:
        notices.send(
            "W_SPARSE_REWARD",
            f"only {round(signal.better * steps):,} of {steps:,} steps earned more than {usual}: {REMEDY}",
        )
