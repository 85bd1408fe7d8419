"""What people should know about their data, in plain words with stable codes. Nothing here changes the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.rollout import Rollout
from trainer.behaviour import Player, Players
from trainer.reports import Notices

_OUTSIDE = 1e-4
_MISMATCH_WORTH_SAYING = 0.02
_STALE_WORTH_SAYING = 0.95
_LARGE_REWARD, _SMALL_REWARD = 1e4, 1e-4
_STEPS_LOOKED_AT, _MOST_AGENTS = 1024, 64


def check_rollouts(rollouts: Sequence[Rollout], contract: PolicyContract, notices: Notices) -> None:
    """Look for what is usually a mistake in an exporter or a reward."""
    left_out = sum(r.left_out for r in rollouts)
    if left_out:
        notices.say("W_LEFT_OUT", f"{left_out} experiences were not finite (nan or inf) and were left out")
    _check_observations(rollouts, notices)
    rewards = np.concatenate([r.rewards for r in rollouts])
    if len(rewards) > 1 and np.ptp(rewards) == 0:
        notices.say("W_CONSTANT_REWARD", f"every reward is {rewards[0]:g}: there is nothing to learn from")
    elif not _SMALL_REWARD <= (largest := float(np.abs(rewards).max(initial=0.0))) <= _LARGE_REWARD:
        notices.say("W_REWARD_SCALE", f"the largest reward is {largest:g} a step: scale rewards to about 0.01 to 100")
    if together := next(filter(None, map(agents_together, rollouts)), 0):
        notices.say(
            "W_AGENTS_MIXED",
            f"steps {together} apart resemble each other far more than neighbours of one agent_index do: "
            f"about {together} agents seem to share it, so that advantages run across them",
        )
    space = contract.action_space
    if isinstance(space, ContinuousActions):
        _check_bounds(rollouts, space, notices)


def _check_observations(rollouts: Sequence[Rollout], notices: Notices) -> None:
    lows = np.min([r.observations.min(axis=0) for r in rollouts], axis=0)
    highs = np.max([r.observations.max(axis=0) for r in rollouts], axis=0)
    dead = np.flatnonzero(lows == highs)
    if len(dead) and sum(r.size for r in rollouts) > 1:
        which = ", ".join(map(str, dead[:20])) + (" ..." if len(dead) > 20 else "")
        notices.say(
            "W_DEAD_OBSERVATION",
            f"{len(dead)} of {len(lows)} observations never change (index {which}, counted from 0): "
            "is a sensor unplugged?",
        )


def agents_together(rollout: Rollout) -> int:
    """Give how many agents seem to be interleaved under one agent_index; 0 where each has its own.

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


def _check_bounds(rollouts: Sequence[Rollout], space: ContinuousActions, notices: Notices) -> None:
    low, high = np.array(space.low), np.array(space.high)
    margin = _OUTSIDE * (high - low)
    outside = sum(((r.actions < low - margin) | (r.actions > high + margin)).sum(axis=0) for r in rollouts)
    names = [name for name, n in zip(space.names, np.atleast_1d(outside), strict=True) if n]
    if names:
        notices.say(
            "W_ACTION_BOUNDS",
            f"recorded actions lie outside their bounds ({', '.join(names)}); bounds are {space.in_words()}. "
            "They are taken as lying at the bound; record actions after clamping",
        )


def check_players(player_B: Players, *, anything_trained: bool, notices: Notices) -> None:
    """Say in plain words where the recorded log_probs fit no published model; `player_B` is of the new rollouts."""
    unknown = float((player_B == Player.UNKNOWN).mean())
    if unknown > _MISMATCH_WORTH_SAYING:
        notices.say(
            "W_LOGP_BROKEN",
            f"{unknown:.0%} of the recorded log_probs are all alike or no log densities: the exporter does not fill "
            "them in. These steps are trusted as if the published model had played them",
        )
    stranger = float((player_B == Player.STRANGER).mean())
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
