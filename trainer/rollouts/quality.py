"""What people should know about their data, in plain words with stable codes. Nothing here changes the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract
from schemas.rollout.rollout import Bools, Float32, Rollout
from trainer.common.reporting import Notices
from trainer.rollouts.behaviour_policy import PolicySource, PolicySources

_OUTSIDE = 1e-4
_MISMATCH_WORTH_SAYING = 0.02
_STALE_WORTH_SAYING = 0.95
_LARGE_REWARD, _SMALL_REWARD = 1e4, 1e-4
_STEPS_LOOKED_AT, _MOST_AGENTS = 1024, 64


@dataclass(frozen=True, slots=True)
class RolloutQuality:
    """What one rollout tells of its exporter; found out when it lands. Letters: see trainer.common.shapes."""

    size: int
    left_out: int
    low_O: Float32
    high_O: Float32
    least_reward: float
    largest_reward: float
    together: int  #: agents under one index; 0 where each has its own
    outside_A: Bools  #: continuous actions of which some lie beyond a bound


def measure_quality(rollout: Rollout) -> RolloutQuality:
    """Look at one rollout."""
    return RolloutQuality(
        size=rollout.size,
        left_out=rollout.left_out,
        low_O=rollout.observations.min(axis=0),
        high_O=rollout.observations.max(axis=0),
        least_reward=float(rollout.rewards.min()),
        largest_reward=float(rollout.rewards.max()),
        together=agents_together(rollout),
        outside_A=_outside(rollout.actions, rollout.contract.action_space),
    )


def check_rollouts(facts: Sequence[RolloutQuality], contract: PolicyContract, notices: Notices) -> None:
    """Say what is usually a mistake in an exporter or a reward; `facts` are of rollouts that keep to the contract."""
    if left_out := sum(one.left_out for one in facts):
        notices.say("W_LEFT_OUT", f"{left_out} experiences were not finite (nan or inf) and were left out")
    size = sum(one.size for one in facts)
    if size > 1:
        _check_observations(facts, notices)
    least, most = min(one.least_reward for one in facts), max(one.largest_reward for one in facts)
    if size > 1 and least == most:
        notices.say("W_CONSTANT_REWARD", f"every reward is {least:g}: there is nothing to learn from")
    elif not _SMALL_REWARD <= (largest := max(abs(least), abs(most))) <= _LARGE_REWARD:
        notices.say("W_REWARD_SCALE", f"the largest reward is {largest:g} a step: scale rewards to about 0.01 to 100")
    if together := next((one.together for one in facts if one.together), 0):
        notices.say(
            "W_AGENTS_MIXED",
            f"steps {together} apart resemble each other far more than neighbours of one agent_index do: "
            f"about {together} agents seem to share it, so that advantages run across them",
        )
    if isinstance(contract.action_space, ContinuousActions):
        _check_bounds(facts, contract.action_space, notices)


def _check_observations(facts: Sequence[RolloutQuality], notices: Notices) -> None:
    lows, highs = np.min([one.low_O for one in facts], axis=0), np.max([one.high_O for one in facts], axis=0)
    dead = np.flatnonzero(lows == highs)
    if len(dead):
        which = ", ".join(map(str, dead[:20])) + (" ..." if len(dead) > 20 else "")
        notices.say(
            "W_DEAD_OBSERVATION",
            f"{len(dead)} of {len(lows)} observations never change (index {which}, counted from 0): "
            "is a sensor unplugged?",
        )


def agents_together(rollout: Rollout) -> int:
    """Return how many agents seem to be interleaved under one agent_index; 0 where each has its own.

    An agent's observations change little from step to step. Where neighbours under one index are as far apart as any
    two steps, but every k-th steps are close, k agents take turns under it.
    """
    index, count = np.unique(rollout.agents, return_counts=True)
    rows = np.flatnonzero(rollout.agents == index[np.argmax(count)])[:_STEPS_LOOKED_AT]
    observations = rollout.observations[rows].astype(np.float64)
    spread = observations.std(axis=0)
    observations = observations[:, spread > 0] / spread[spread > 0]
    if len(rows) < 4 * _MOST_AGENTS or observations.shape[1] == 0:
        return 0
    distances = [float(np.abs(observations[lag:] - observations[:-lag]).mean()) for lag in range(1, _MOST_AGENTS + 1)]
    usual = float(np.median(distances))
    closest = int(np.argmin(distances)) + 1
    is_mixed = distances[0] > 0.7 * usual and distances[closest - 1] < 0.3 * usual
    return closest if is_mixed else 0


def _outside(action_BA: Float32, space: ActionSpace) -> Bools:
    if not isinstance(space, ContinuousActions):
        return np.zeros(0, dtype=bool)
    low, high = np.array(space.low), np.array(space.high)
    margin = _OUTSIDE * (high - low)
    return np.asarray((action_BA.min(axis=0) < low - margin) | (action_BA.max(axis=0) > high + margin))


def _check_bounds(facts: Sequence[RolloutQuality], space: ContinuousActions, notices: Notices) -> None:
    outside_A = np.any([one.outside_A for one in facts], axis=0)
    names = [name for name, is_outside in zip(space.names, outside_A, strict=True) if is_outside]
    if names:
        notices.say(
            "W_ACTION_BOUNDS",
            f"recorded actions lie outside their bounds ({', '.join(names)}); bounds are {space.in_words()}. "
            "They are taken as lying at the bound; record actions after clamping",
        )


def check_policy_sources(policy_source_B: PolicySources, *, anything_trained: bool, notices: Notices) -> None:
    """Say in plain words where the recorded log_probs fit no published model; `policy_source_B` is of the new rollouts."""
    unknown = float((policy_source_B == PolicySource.UNKNOWN).mean())
    if unknown > _MISMATCH_WORTH_SAYING:
        notices.say(
            "W_LOGP_BROKEN",
            f"{unknown:.0%} of the recorded log_probs are all alike or no log densities: the exporter does not fill "
            "them in. These steps are trusted as if the published model had played them",
        )
    stranger = float((policy_source_B == PolicySource.FOREIGN).mean())
    if stranger <= _MISMATCH_WORTH_SAYING:
        return
    if anything_trained:
        notices.say(
            "W_LOGP_MISMATCH",
            f"{stranger:.0%} of the recorded log_probs do not fit the published model: the engine plays other weights, "
            "or its exporter is broken",
        )
    else:
        notices.say(
            "W_STRANGER",
            f"the engine plays weights of its own ({stranger:.0%} of the steps): "
            "expected until it loads a published model",
        )


def check_staleness(behind: Sequence[float], notices: Notices) -> None:
    """Say where nearly all was played by another model than the newest of its time; one share a new rollout."""
    if not behind or (share := float(np.mean(behind))) < _STALE_WORTH_SAYING:
        return
    notices.say(
        "W_STALE",
        f"{share:.0%} of the new steps were played by an older model than the newest of their time: "
        "does the engine look at best_model_path.txt again while it runs?",
    )
