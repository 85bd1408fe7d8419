"""Notices about common mistakes in exporters and rewards. The data are not changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract
from schemas.rollout.finite import in_words, merged, remedy
from schemas.rollout.rollout import Bools, Float32, LeftOut, Rollout
from trainer.common.reporting.reporter import Notices
from trainer.rollouts.behaviour_policy import PolicySource, PolicySources

_OUTSIDE = 1e-4
_MISMATCH_TO_REPORT = 0.02
_STALE_TO_REPORT = 0.95
_OUTLIER = 1e4
"""An observation this many times larger than half of its values, and than 1, makes its normalised values useless."""
_LARGE_REWARD, _SMALL_REWARD = 1e4, 1e-4


@dataclass(frozen=True, slots=True)
class RolloutQuality:
    """Measures of one rollout, taken when it arrives. Letters: see trainer.common.shapes."""

    size: int
    left_out: int
    causes: tuple[LeftOut, ...]  #: why experiences were left out
    low_O: Float32
    high_O: Float32
    median_O: Float32  #: of the magnitudes
    low_P: Float32
    high_P: Float32
    median_P: Float32
    min_reward: float
    max_reward: float
    outside_A: Bools  #: continuous actions with a value beyond a bound


def measure_quality(rollout: Rollout) -> RolloutQuality:
    """Return the measures of one rollout."""
    critic = rollout.critic_observations
    critic_BP = np.zeros((1, 0), np.float32) if critic is None else critic
    return RolloutQuality(
        size=rollout.size,
        left_out=rollout.left_out,
        causes=rollout.causes,
        low_O=rollout.observations.min(axis=0),
        high_O=rollout.observations.max(axis=0),
        median_O=np.median(np.abs(rollout.observations), axis=0),
        low_P=critic_BP.min(axis=0),
        high_P=critic_BP.max(axis=0),
        median_P=np.median(np.abs(critic_BP), axis=0),
        min_reward=float(rollout.rewards.min()),
        max_reward=float(rollout.rewards.max()),
        outside_A=_actions_outside_bounds(rollout.actions, rollout.contract.action_space),
    )


def check_rollouts(measures: Sequence[RolloutQuality], contract: PolicyContract, notices: Notices) -> None:
    """Send notices about common mistakes in exporters and rewards. All rollouts must have this contract."""
    size = sum(one.size for one in measures)
    if left_out := sum(one.left_out for one in measures):
        causes = merged(cause for one in measures for cause in one.causes)
        text = f"{left_out} experiences were left out: {in_words(causes, size + left_out)} -> {remedy(causes)}"
        notices.send("W_LEFT_OUT", text)
    if size > 1:
        _check_observations([(one.low_O, one.high_O, one.median_O) for one in measures], notices)
        _check_critic_observations(measures, notices)
    low, high = min(one.min_reward for one in measures), max(one.max_reward for one in measures)
    if (size == 1 or low < high) and not _SMALL_REWARD <= (largest := max(abs(low), abs(high))) <= _LARGE_REWARD:
        notices.send(
            "W_REWARD_SCALE",
            f"the largest reward of a step is {largest:g}: scale rewards to about 0.01 to 100 per step",
        )
    if isinstance(contract.action_space, ContinuousActions):
        _check_bounds(measures, contract.action_space, notices)


def _check_critic_observations(measures: Sequence[RolloutQuality], notices: Notices) -> None:
    """Check the critic observations of those rollouts that have as many as most others with any."""
    widths = Counter(len(one.low_P) for one in measures if len(one.low_P))
    width = widths.most_common(1)[0][0] if widths else 0
    chosen = [one for one in measures if width and len(one.low_P) == width]
    if sum(one.size for one in chosen) > 1:
        ranges = [(one.low_P, one.high_P, one.median_P) for one in chosen]
        _check_observations(ranges, notices, name="critic observation")


def _check_observations(
    ranges: Sequence[tuple[Float32, Float32, Float32]], notices: Notices, *, name: str = "observation"
) -> None:
    """Report columns that never change, and one with outliers. A rollout has the lows, highs and usual magnitudes."""
    lows, highs = np.min([low for low, _, _ in ranges], axis=0), np.max([high for _, high, _ in ranges], axis=0)
    dead = np.flatnonzero(lows == highs)
    if len(dead):
        indices = ", ".join(map(str, dead[:20])) + (" ..." if len(dead) > 20 else "")
        notices.send(
            "W_DEAD_OBSERVATION",
            f"{len(dead)} of {len(lows)} {name}s never change (index {indices}, counted from 0): "
            "check the sensors with these indices",
        )
    largest = np.maximum(np.abs(lows), np.abs(highs))
    usual = np.max([median for _, _, median in ranges], axis=0)
    limit = (
        "Set agent.observation_limit, and clamp in the engine too" if name == "observation" else "Clamp in the engine"
    )
    for index in np.flatnonzero(largest > _OUTLIER * np.maximum(usual, 1.0))[:1]:
        notices.send(
            "W_OBSERVATION_RANGE",
            f"{name} {index} reaches {largest[index]:.2g}, but half of its values are within {usual[index]:.2g}: "
            f"a ray that hits nothing? {limit}",
        )


def check_critic_observations(rollouts: Sequence[Rollout], width: int, notices: Notices) -> None:
    """Report new rollouts that do not have the critic observations that critics use in this cycle."""
    others = Counter(rollout.critic_width for rollout in rollouts if rollout.critic_width != width)
    if not (width and others):
        return
    found = ", ".join(f"{count} have {other or 'none'}" for other, count in sorted(others.items()))
    notices.send(
        "W_CRITIC_OBSERVATIONS",
        f"critics use {width} critic observations, but of {len(rollouts)} new rollouts {found}: these are used without "
        "critic observations. Let every client write the same number in every file",
    )


def _actions_outside_bounds(action_BA: Float32, space: ActionSpace) -> Bools:
    if not isinstance(space, ContinuousActions):
        return np.zeros(0, dtype=bool)
    low, high = np.array(space.low), np.array(space.high)
    margin = _OUTSIDE * (high - low)
    return np.asarray((action_BA.min(axis=0) < low - margin) | (action_BA.max(axis=0) > high + margin))


def _check_bounds(measures: Sequence[RolloutQuality], space: ContinuousActions, notices: Notices) -> None:
    outside_A = np.any([one.outside_A for one in measures], axis=0)
    names = [name for name, is_outside in zip(space.names, outside_A, strict=True) if is_outside]
    if names:
        notices.send(
            "W_ACTION_BOUNDS",
            f"recorded actions are outside their bounds ({', '.join(names)}); the bounds are {space.in_words()}. "
            "They count as actions at the bound; record actions after clamping, or set agent.action_low and "
            "agent.action_high",
        )


def check_policy_sources(
    policy_source_B: PolicySources,
    is_early_B: Bools,
    *,
    anything_trained: bool,
    is_off_policy: bool = False,
    notices: Notices,
) -> None:
    """Report recorded log_probs that match no published model. The columns are those of the new rollouts.

    `is_early_B` marks steps that are older than the project's models: another policy is expected there. If learning
    `is_off_policy`, the steps of all policies count in full.
    """
    unknown = float((policy_source_B == PolicySource.UNKNOWN).mean())
    if unknown > _MISMATCH_TO_REPORT:
        effect = (
            "td3 learns without them, but it is not known whether the engine uses the published models"
            if is_off_policy
            else "These steps are used as if the policy of the steps around them had generated them"
        )
        notices.send(
            "W_LOGP_BROKEN",
            f"{unknown:.0%} of the recorded log_probs are missing, infinite, all equal or not log densities: correct "
            f"the exporter. {effect}",
        )
    is_foreign_B = policy_source_B == PolicySource.FOREIGN
    if float(is_foreign_B.mean()) <= _MISMATCH_TO_REPORT:
        return
    foreign, early = (float((is_foreign_B & some_B).mean()) for some_B in (~is_early_B, is_early_B))
    if not anything_trained:
        notices.send(
            "W_STRANGER",
            f"the engine uses another policy ({foreign + early:.0%} of the steps); this is expected until it loads a "
            f"published model{'. td3 learns from these steps in full' if is_off_policy else ''}",
        )
        return
    if foreign > _MISMATCH_TO_REPORT:
        notices.send(
            "W_LOGP_MISMATCH",
            f"{foreign:.0%} of the recorded log_probs do not match a published model: the engine uses another policy, "
            f"or its exporter is broken{'. td3 learns from these steps in full' if is_off_policy else ''}",
        )
    if early > _MISMATCH_TO_REPORT and not is_off_policy:
        notices.send(
            "W_EARLY_ROLLOUTS",
            f"{early:.0%} of the new steps were recorded before the oldest model that still exists, with another "
            "policy: they count less, the less the present policy would act like them",
        )


def check_staleness(is_stale_B: Bools, notices: Notices) -> None:
    """Report if nearly all new steps were generated by an older model than the newest of their time."""
    if not len(is_stale_B) or (share := float(is_stale_B.mean())) < _STALE_TO_REPORT:
        return
    notices.send(
        "W_STALE",
        f"{share:.0%} of the new steps were generated by an older model than the newest of their time: "
        "let the engine read best_model_path.txt again while it runs",
    )
