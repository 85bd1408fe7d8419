"""Compares two policies by their returns in episodes from the same seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

LOOKS = (1, 2, 4)
"""Blocks of episodes after which a comparison may end."""
_EXACT_UP_TO = 12  #: differences for which all signs are tried
_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison with the reference."""

    result: Literal["better", "tie", "worse"]
    probability: float  #: of a difference this large, in this direction, between two equal policies
    blocks: int  #: how many were compared


def compare(
    new: Callable[[int], Float64],
    reference: Callable[[int], Float64],
    *,
    confidence: float,
    most_blocks: int = LOOKS[-1],
) -> Verdict:
    """Compare in steps; `new(b)` and `reference(b)` return the returns of the first b blocks.

    More episodes are run only while the new policy is behind and the difference can be chance. Each look has an equal
    part of the error probability (Bonferroni), so an equal policy is called worse with a probability of at most
    1 - `confidence`, and likewise better.
    """
    looks = [look for look in LOOKS if look <= most_blocks]
    level = (1.0 - confidence) / len(looks)
    for look in looks:
        new_E, reference_E = new(look), reference(look)
        shared = min(len(new_E), len(reference_E))  # an endless episode leaves out the later ones of its agent
        ahead_E = new_E[:shared] - reference_E[:shared]
        is_ahead = bool(ahead_E.mean() >= 0.0)
        probability = chance_of(ahead_E if is_ahead else -ahead_E)
        if probability <= level:
            return Verdict("better" if is_ahead else "worse", probability, look)
        if is_ahead and 0.5**shared <= level:  # so many episodes could have shown that it is better
            break
    return Verdict("tie", probability, look)


def chance_of(difference_E: Float64) -> float:
    """Return the probability of a sum this large if the sign of each difference were random (a sign-flip test).

    It assumes no distribution of the returns (Fisher 1935). With many differences the signs are sampled.
    """
    size_E = np.abs(difference_E[difference_E != 0.0])
    if not len(size_E):
        return 1.0
    if len(size_E) <= _EXACT_UP_TO:
        is_plus_SE = np.array(list(product((0.0, 1.0), repeat=len(size_E))))
        extra = 0
    else:
        is_plus_SE = np.random.default_rng(0).integers(0, 2, (_SAMPLES, len(size_E))).astype(float)
        extra = 1  # the observed signs are one of the possible cases
    sum_S = 2.0 * is_plus_SE @ size_E - size_E.sum()
    least = difference_E.sum() - 1e-9 * size_E.sum()  # rounding must not turn an equal sum into a smaller one
    return float((np.count_nonzero(sum_S >= least) + extra) / (len(sum_S) + extra))
