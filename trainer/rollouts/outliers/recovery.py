"""Statistics that outliers have made useless: they start again.

Those of observations can be useless only in checkpoints of a version that did not limit outliers: these have returns
without a reach. Later ones stay, because observations that vary less for a while may vary as before again.
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
_WRONG_RETURNS, _WRONG_RETURNS_NOW = 10.0, 1000.0
"""A deviation of the returns this many times their reach is not theirs, in an earlier version and in this one."""
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
            f"the statistics of {' and '.join(parts)} came from numbers that are much larger than all present ones: "
            "they start again from the present experiences"
        )


def recovered(normalisers: Normalisers, observation_BO: Float32, reward_B: Float32, gamma: float) -> Recovery:
    """Return normalisers that fit experiences, from which outliers were removed.

    If returns start again, `returns` is not set: the next targets determine it.
    """
    observations, returns = normalisers.observations, normalisers.returns
    columns: tuple[int, ...] = ()
    if not returns.is_set or len(reward_B) < _ENOUGH:
        return Recovery(normalisers, (), has_new_returns=False)
    wrong = _WRONG_RETURNS_NOW
    if not returns.reach:
        observations, columns = _observations(normalisers.observations, observation_BO)
        wrong = _WRONG_RETURNS
    now = ReturnNormaliser().reaching(reward_B, gamma)
    is_wrong = 0.0 < now.reach * wrong < returns.std
    return Recovery(Normalisers(observations, now if is_wrong else returns), columns, has_new_returns=is_wrong)


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
