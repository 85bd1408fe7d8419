"""Advantages: generalised advantage estimation, with traces for data of other policies.

GAE is Schulman et al. 2016, arXiv:1506.02438, eq. 16. The traces are those of V-trace, Espeholt et al. 2018,
arXiv:1802.01561, eq. 1, with c = lambda * rho.

    delta_t = r_t + gamma V(s_t+1) - V(s_t)
    A_t     = delta_t + gamma lambda rho_t+1 A_t+1        while the episode continues
    target  = V(s_t) + rho_t A_t

If every rho is 1 this is GAE, and the targets are the lambda-returns.
"""

from __future__ import annotations

import numpy as np

from schemas.rollout.rollout import Bools
from trainer.common.shapes import Float64


def discounted_scan(first_B: Float64, carry_B: Float64) -> Float64:
    """Solve x_t = first_t + carry_t * x_t+1 for all rows at once; the last row's carry must be 0.

    A scan by doubling (Hillis and Steele 1986): after k rounds each x contains its next 2^k terms. A row with carry 0
    ends a sequence, so sequences of any lengths can follow each other without padding.
    """
    sums_B, reach_B = first_B.copy(), carry_B.copy()
    shift = 1
    while shift < len(sums_B) and reach_B.any():
        sums_B[:-shift] += reach_B[:-shift] * sums_B[shift:]
        reach_B[:-shift] = reach_B[:-shift] * reach_B[shift:]
        reach_B[-shift:] = 0.0
        shift *= 2
    return sums_B


def advantages(
    *,
    reward_B: Float64,
    value_B: Float64,
    next_value_B: Float64,
    trace_continues_B: Bools,
    rho_B: Float64,
    gamma: float,
    lam: float,
) -> Float64:
    """Return A_t for every row.

    `next_value_B` is 0 after an episode's end. `trace_continues_B` is true if row t+1 continues the trace of row t.
    """
    delta_B = reward_B + gamma * next_value_B - value_B
    rho_next_B = np.append(rho_B[1:], 0.0)
    return discounted_scan(delta_B, gamma * lam * trace_continues_B * rho_next_B)


def average_returns(
    *, reward_B: Float64, terminated_B: Bools, trace_continues_B: Bools, can_bootstrap_B: Bools, gamma: float
) -> Float64:
    """Return the discounted return of each row that can bootstrap, without a value function.

    A trace that is cut is bootstrapped with the value of an average state. If G is the return up to the cut and D the
    discount at the cut, that value is c = mean(G) + c mean(D).
    """
    carry_B = np.where(trace_continues_B, gamma, 0.0)
    cut_B = can_bootstrap_B & ~terminated_B & ~trace_continues_B
    return_B = discounted_scan(reward_B, carry_B)[can_bootstrap_B]
    discount_B = discounted_scan(np.where(cut_B, gamma, 0.0), carry_B)[can_bootstrap_B]
    average = return_B.mean() / max(1.0 - discount_B.mean(), 1e-3)
    return np.asarray(return_B + average * discount_B, dtype=np.float64)
