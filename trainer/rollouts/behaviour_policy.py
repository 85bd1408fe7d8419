"""Who played each experience: the published models are tried on, and the recorded log_probs say which one fits.

An engine hot-loads in the middle of a file, keeps old weights when it was not looking, or plays weights of its own.
So nothing is taken on trust: for each candidate model the density of the recorded (clamped) action is computed as the
engine computes it (Contract 3) and compared with what the engine recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch

from schemas.contract import ActionSpace, ContinuousActions
from schemas.model import NOISE_STD_MIN, Model
from schemas.rollout.rollout import Bools, Float32
from trainer.common.shapes import Float64
from trainer.networks.distributions import LOG_SQRT_2PI, distribution_for
from trainer.rollouts.experiences import Experiences

ABSOLUTE_TOLERANCE = 0.02  #: nats
RELATIVE_TOLERANCE = 0.002
"""What float32 arithmetic and rounding on the way through JSON may explain."""
MOST = 0.5
"""A noise scale is fitted where fewer than this part fits without, and kept where more than this part fits with."""
ROWS_FOR_NOISE = 256
"""The noise is fitted on about this many experiences, spread over the rollout."""
LARGEST_DENSITY_PER_ACTION = 9.0
"""Log density of a normal at its mean with the smallest deviation the engine knows, 0.01 * 0.01: 8.3."""


PolicySources = npt.NDArray[np.int8]
"""One Player a step."""


class PolicySource(IntEnum):
    """Whose experience a step is."""

    PARENT = 0  #: the very model that training goes on from
    PUBLISHED = 1  #: another published model
    FOREIGN = 2  #: none of the candidates; the engine's own log_prob is all that is known
    UNKNOWN = 3  #: and not even that can be believed


@dataclass(frozen=True, slots=True)
class CandidatePolicy:
    """A model that may have played."""

    model: Model
    is_parent: bool


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who played the steps of one rollout."""

    policy_source_B: PolicySources  #: values of Player
    logp_B: Float64  #: nats; published models: likelihood of the action; strangers: the recorded density; else 0
    noise: float  #: factor on the standard deviation
    fitted: bool  #: the noise was not said but found
    behind: float  #: part of the steps that a later candidate played, not the likeliest, in [0, 1]


class _Fit:
    """One candidate tried on one rollout."""

    def __init__(self, candidate: CandidatePolicy, experiences: Experiences) -> None:
        model = candidate.model
        self.player = PolicySource.PARENT if candidate.is_parent else PolicySource.PUBLISHED
        self._continuous = isinstance(model.contract.action_space, ContinuousActions)
        self._head = distribution_for(model.contract.action_space)
        self._output_BK = torch.from_numpy(model.policy(experiences.observation_BO)).double()
        self._log_std_A = torch.from_numpy(model.action_log_std.astype(np.float64))
        self._action_BA = torch.from_numpy(experiences.action_BA).double()
        self._recorded_B = experiences.log_prob_B.astype(np.float64)
        # With the noise n: density = at_zero - A log n - squares / (2 n^2), so that any n is cheap to try.
        if self._continuous:
            std_A = self._log_std_A.exp()
            z_BA = (self._action_BA - self._output_BK.tanh()) / std_A
            self._squares_B = z_BA.square().sum(dim=1).numpy()
            at_zero = -float(self._log_std_A.sum()) - len(std_A) * LOG_SQRT_2PI
            self._at_zero_B = np.full(experiences.size, at_zero)
        else:
            self._squares_B = np.zeros(experiences.size)
            self._at_zero_B = self._head.clamped_log_density(self._output_BK, self._log_std_A, self._action_BA).numpy()

    def misfit(self, noise: Float64 | float, rows: slice = slice(None)) -> Float64:
        """Distance of the recorded log_probs from this model's, in tolerances [..., B]; at most 1 fits.

        `noise` is one factor, or several as [n, 1].
        """
        width = len(self._log_std_A)
        density = self._at_zero_B[rows] - width * np.log(noise) - self._squares_B[rows] / (2.0 * np.square(noise))
        tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(density)
        return np.asarray(np.abs(density - self._recorded_B[rows]) / tolerance, dtype=np.float64)

    def likelihood(self, noise: float) -> Float64:
        """Log likelihood of the actions, clamping taken into account [B]."""
        std_scale_B = torch.full((len(self._action_BA),), noise, dtype=torch.float64)
        packed_BC = self._head.encode(self._action_BA, std_scale_B)
        return np.asarray(self._head.log_prob(self._output_BK, self._log_std_A, packed_BC).numpy(), dtype=np.float64)

    def best_noise(self) -> float:
        """Fit one factor for the whole rollout: the least median misfit over a logarithmic grid, refined thrice."""
        if not self._continuous:
            return 1.0
        rows = slice(None, None, max(1, len(self._recorded_B) // ROWS_FOR_NOISE))
        low, high = np.log(NOISE_STD_MIN), np.log(10.0)
        for _ in range(4):
            grid = np.linspace(low, high, 41)
            best = grid[int(np.argmin(np.median(self.misfit(np.exp(grid)[:, None], rows), axis=1)))]
            step = grid[1] - grid[0]
            low, high = max(best - 2 * step, np.log(NOISE_STD_MIN)), best + 2 * step
        return float(np.exp(best))


def identify(
    experiences: Experiences, candidates: Sequence[CandidatePolicy], noise_std: float | None, space: ActionSpace
) -> Attribution:
    """Find who played each step of one rollout; candidates come the likeliest first.

    Letters: see trainer.common.shapes. `noise_std` is the engine's factor where it says one.
    """
    noise, fitted = 1.0 if noise_std is None else max(noise_std, NOISE_STD_MIN), False
    fits, misfits = _try_on(experiences, candidates, noise)
    if noise_std is None and fits and _share(misfits) < MOST:
        for fit in fits:
            other = fit.best_noise()
            refitted = [f.misfit(other) for f in fits]
            if _share(refitted) > max(MOST, _share(misfits)):
                noise, misfits, fitted = other, refitted, True
    policy_source_B, logp_B = _foreign(experiences, space)
    behind = 0.0
    if fits:
        best_B = np.argmin(misfits, axis=0)
        for index, fit in enumerate(fits):
            mine_B = (best_B == index) & (misfits[index] <= 1.0)
            if mine_B.any():
                policy_source_B[mine_B] = fit.player
                logp_B[mine_B] = fit.likelihood(noise)[mine_B]
        behind = float(((np.min(misfits, axis=0) <= 1.0) & (best_B > 0)).mean())
    return Attribution(policy_source_B, logp_B, noise, fitted, behind)


def _try_on(
    experiences: Experiences, candidates: Sequence[CandidatePolicy], noise: float
) -> tuple[list[_Fit], list[Float64]]:
    """Try candidates until one fits all steps; most rollouts are done with the first."""
    fits: list[_Fit] = []
    misfits: list[Float64] = []
    for candidate in candidates:
        fits.append(_Fit(candidate, experiences))
        misfits.append(fits[-1].misfit(noise))
        if (misfits[-1] <= 1.0).all():
            break
    return fits, misfits


def _share(misfits: Sequence[Float64]) -> float:
    """Part of the steps that any candidate fits."""
    return float((np.min(misfits, axis=0) <= 1.0).mean())


def _foreign(experiences: Experiences, space: ActionSpace) -> tuple[PolicySources, Float64]:
    """Take all steps as a stranger's, or as unknown where the recorded log_probs are none."""
    recorded_B = experiences.log_prob_B.astype(np.float64)
    believable = not log_probs_are_broken(experiences.log_prob_B, space)
    player = PolicySource.FOREIGN if believable else PolicySource.UNKNOWN
    return np.full(experiences.size, player, dtype=np.int8), recorded_B.copy() if believable else np.zeros_like(
        recorded_B
    )


def log_probs_are_broken(recorded_B: Float32, space: ActionSpace) -> bool:
    """Return whether a rollout's log_probs cannot be what they should: all alike, or higher than any can be."""
    alike = len(recorded_B) > 1 and bool(np.ptp(recorded_B) < 1e-6)
    if isinstance(space, ContinuousActions):
        return alike or bool(np.median(recorded_B) > LARGEST_DENSITY_PER_ACTION * space.width)
    return bool(np.median(recorded_B) > -1e-6)  # choices drawn evenly do have log_probs all alike


def importance_weights(
    parent_logp_B: Float64, parent_density_B: Float64, policy_source_B: PolicySources, logp_B: Float64
) -> Float64:
    """Return min(1, start policy / player) for each step [B]; exactly 1 for the parent's own and unknown steps.

    Likelihoods are compared with likelihoods, and a stranger's recorded density with the start's density.
    """
    start_B = np.where(policy_source_B == PolicySource.FOREIGN, parent_density_B, parent_logp_B)
    ratio_B = np.exp(np.minimum(start_B - logp_B, 0.0))
    own_B: Bools = (policy_source_B == PolicySource.PARENT) | (policy_source_B == PolicySource.UNKNOWN)
    return np.where(own_B, 1.0, ratio_B)
