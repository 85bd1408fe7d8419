"""How an engine turns the policy's actions into the game's, if their bounds reach beyond [-1, 1].

A policy's mean is in [-1, 1]. An engine whose action has the bounds [0, 5] can clamp the policy's action to them, as
"Model JSON" in docs/reference/formats.md says, multiply it by 5, or stretch [-1, 1] to [0, 5]. It records the action in
the game's units; training needs it in the policy's. The recorded log_probs show which of the three the engine does.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.contract import ContinuousActions
from schemas.job import Job
from schemas.rollout.rollout import Rollout
from trainer.common.shapes import Float64
from trainer.rollouts.behaviour_policy import FITTING_SHARE, CandidatePolicy, matching_share
from trainer.rollouts.candidates import CandidateModels
from trainer.rollouts.experiences import by_agent
from trainer.rollouts.loading import LoadedRollout

_log = logging.getLogger(__name__)
_ROLLOUTS = 4
"""How many rollouts are compared with the published models."""
_REACH = 3.0
"""What a policy with the first standard deviation, one half, hardly ever exceeds."""
_BEYOND_REACH = 0.005
"""The share of actions beyond reach above which an engine does more than clamp them."""
_OFTEN = 0.2
"""The share of actions at the lower bound above which an engine clamps at it, instead of stretching to it."""
_AT_BOUND = 1e-6


@dataclass(frozen=True, slots=True)
class ActionUnits:
    """The game's action is `offset + scale` times the policy's, for each action."""

    name: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    density_shift: float = 0.0  #: what the recorded log_probs lack, because they are densities in the game's units

    def space(self, space: ContinuousActions) -> ContinuousActions:
        """Return the bounds in the policy's units."""
        low = tuple((low - o) / s for low, o, s in zip(space.low, self.offset, self.scale, strict=True))
        high = tuple((high - o) / s for high, o, s in zip(space.high, self.offset, self.scale, strict=True))
        return ContinuousActions(names=space.names, low=low, high=high)

    def applied_to(self, rollout: Rollout) -> Rollout:
        """Return a rollout with its actions and log_probs in the policy's units."""
        actions = (rollout.actions - np.array(self.offset, np.float32)) / np.array(self.scale, np.float32)
        log_probs = rollout.log_probs + np.float32(self.density_shift)
        return dataclasses.replace(rollout, actions=actions.astype(np.float32), log_probs=log_probs)


def in_policy_units(
    loaded: Sequence[LoadedRollout], job: Job, models: CandidateModels
) -> tuple[list[LoadedRollout], Job]:
    """Return the rollouts and the job with actions and bounds in the policy's units."""
    space = job.contract.action_space
    if not isinstance(space, ContinuousActions) or not has_wide_bounds(space):
        return list(loaded), job
    units = _choose([(item.rollout, list(models.of(item.entry))) for item in loaded], space)
    _log.info("bounds beyond [-1, 1]: the engine %s", units.name)
    converted = [dataclasses.replace(item, rollout=units.applied_to(item.rollout)) for item in loaded]
    contract = job.contract.model_copy(update={"action_space": units.space(space)})
    return converted, job.model_copy(update={"contract": contract})


def has_wide_bounds(space: ContinuousActions) -> bool:
    """Return whether an action's bounds reach beyond what a policy's mean can be."""
    return max(map(abs, (*space.low, *space.high))) > 1.0


def _choose(rollouts: Sequence[tuple[Rollout, Sequence[CandidatePolicy]]], space: ContinuousActions) -> ActionUnits:
    known = [(rollout, models) for rollout, models in rollouts if models]
    known = known[:: max(1, len(known) // _ROLLOUTS)]
    shares = {units: _share(known, units, space) for units in _possible(space)}
    best = max(shares, key=lambda units: shares[units])
    return best if shares[best] >= FITTING_SHARE else _guess([rollout for rollout, _ in rollouts], space)


def _share(
    known: Sequence[tuple[Rollout, Sequence[CandidatePolicy]]], units: ActionUnits, space: ContinuousActions
) -> float:
    """Return the share of the steps that a published model would have generated in these units."""
    shares = [
        matching_share(by_agent(units.applied_to(rollout)), models, rollout.noise_std, units.space(space))
        for rollout, models in known
    ]
    return float(np.mean(shares)) if shares else 0.0


def _possible(space: ContinuousActions) -> Iterator[ActionUnits]:
    low, high = np.array(space.low), np.array(space.high)
    is_wide = np.maximum(np.abs(low), np.abs(high)) > 1.0
    zero, one = np.zeros(len(low)), np.ones(len(low))
    yield ActionUnits("clamps the actions to them", _floats(zero), _floats(one))
    for name, offset, scale in (
        ("multiplies the actions", zero, np.where(is_wide, np.maximum(np.abs(low), np.abs(high)), one)),
        (
            "stretches [-1, 1] to them",
            np.where(is_wide, (low + high) / 2, zero),
            np.where(is_wide, (high - low) / 2, one),
        ),
    ):
        for shift in (0.0, float(np.log(scale).sum())):
            yield ActionUnits(name, _floats(offset), _floats(scale), shift)


def _guess(rollouts: Sequence[Rollout], space: ContinuousActions) -> ActionUnits:
    """Return the most plausible units for an engine with weights of its own, by the distribution of its actions."""
    clamps, multiplies, _, stretches, _ = _possible(space)
    wide = np.flatnonzero(np.array(stretches.scale) != 1.0)
    actions = np.concatenate([rollout.actions[:, wide] for rollout in rollouts]).astype(np.float64)
    if (np.abs(actions) > _REACH).mean() < _BEYOND_REACH:
        return clamps
    at_low = (actions <= np.array(space.low)[wide] + _AT_BOUND).mean()
    return multiplies if at_low >= _OFTEN else stretches


def _floats(numbers: Float64) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)
