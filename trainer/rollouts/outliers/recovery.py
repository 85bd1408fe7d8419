"""Statistics that outliers have made useless, in checkpoints of versions that did not limit outliers.

They are known by statistics of returns without a reach. Statistics that this version has updated stay as they are: data
that vary less than they did are not a reason to forget how much they can vary.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from schemas.rollout.rollout import Float32
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, ReturnNormaliser
from trainer.rollouts.outliers.limits import EQUAL

WRONG = 100.0
"""A deviation this many times larger than the range of all numbers is not theirs."""
_WRONG_RETURNS = 10.0
"""A deviation of the returns this many times their reach is not theirs."""
_ENOUGH = 64


class Recovery(NamedTuple):
    """Statistics without the influence of earlier outliers, and what was replaced."""

    normalisers: Normalisers
    columns: tuple[int, ...]  #: the observations with new statistics
    has_new_returns: bool  #: values and their optimizer must start from scratch

    def in_words(self) -> str:
        """Return what was replaced, for a notice; "" if nothing was."""
        parts = [f"observation{'s' if len(self.columns) > 1 else ''} {', '.join(map(str, self.columns[:10]))}"]
        parts = (parts if self.columns else []) + (["the returns"] if self.has_new_returns else [])
        if not parts:
            return ""
        return (
            f"the statistics of {' and '.join(parts)} came from outliers that earlier versions had learned from: "
            "they start again from the present experiences"
        )


def recovered(normalisers: Normalisers, observation_BO: Float32, reward_B: Float32, gamma: float) -> Recovery:
    """Return normalisers that fit experiences, from which outliers were removed.

    If returns start again, `returns` is not set: the next targets determine it.
    """
    returns = normalisers.returns
    if not returns.is_set or returns.reach or len(reward_B) < _ENOUGH:
        return Recovery(normalisers, (), has_new_returns=False)
    observations, columns = _observations(normalisers.observations, observation_BO)
    reach = ReturnNormaliser().reaching(reward_B, gamma)
    is_wrong = bool(0.0 < reach.reach * _WRONG_RETURNS < returns.std)
    return Recovery(Normalisers(observations, reach if is_wrong else returns), columns, has_new_returns=is_wrong)


def _observations(
    before: ObservationNormaliser, observation_BO: Float32
) -> tuple[ObservationNormaliser, tuple[int, ...]]:
    """Return statistics in which those of columns that cannot be theirs are replaced, and the indices of these."""
    now = ObservationNormaliser.identity(len(before.mean_O)).updated(observation_BO)
    low_O, high_O = (torch.from_numpy(end(observation_BO, axis=0)).double() for end in (np.min, np.max))
    range_O = high_O - low_O
    varies_O = range_O > EQUAL * (1.0 + now.mean_O.abs())
    is_wrong_O = varies_O & (before.var_O.sqrt() > WRONG * range_O)
    if before.count == 0 or not is_wrong_O.any():
        return before, ()
    after = ObservationNormaliser(
        torch.where(is_wrong_O, now.mean_O, before.mean_O),
        torch.where(is_wrong_O, now.var_O, before.var_O),
        before.count,
    )
    return after, tuple(torch.nonzero(is_wrong_O)[:, 0].tolist())
