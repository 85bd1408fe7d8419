"""Remove the experiences of a rollout that contain a value that is not finite, and state which columns caused it.

Observations, critic observations, actions and rewards are needed. A log_prob that is not finite marks its experience
as one of an unknown policy; a value or a part of the reward that is not finite is replaced by 0; a final critic
observation that is not finite counts as not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from schemas.contract import ContinuousActions
from schemas.errors import RolloutError
from schemas.rollout.rollout import MAX_MAGNITUDE, Bools, Float32, Int32, LeftOut, Rollout

MAX_CAUSES = 20
_NAMED = 3


def drop_not_finite(rollout: Rollout) -> Rollout:
    """Return the rollout without the experiences that contain a needed value that is not finite.

    They are counted, with the columns that caused it, and the gaps are marked. Raises RolloutError (E_NONFINITE) if
    all experiences contain such a value.
    """
    rollout = _without_unneeded(rollout)
    columns = _needed_columns(rollout)
    if all(map(_is_finite, (*columns.values(), rollout.final_observations))):
        return rollout
    bad_columns = {kind: ~_usable(column) for kind, column in columns.items()}
    good = ~np.logical_or.reduce([bad.any(axis=1) for bad in bad_columns.values()])
    causes = (*rollout.causes, *_causes(rollout, bad_columns))
    if not good.any():
        raise RolloutError(
            f"every experience contains a value that is not finite: {in_words(causes, rollout.size)}",
            hint=remedy(causes),
            code="E_NONFINITE",
        )
    return _only(rollout, good, causes)


def _needed_columns(rollout: Rollout) -> dict[str, Float32]:
    """Return the columns of which every number is needed, by kind."""
    columns = {"observation": rollout.observations, "action": rollout.actions, "reward": rollout.rewards[:, None]}
    if rollout.critic_observations is not None:
        columns["critic observation"] = rollout.critic_observations
    return columns


def in_words(causes: Sequence[LeftOut], total: int) -> str:
    """Return the causes in words: "observation 5 is 3.4e+38 in 240 of 800 experiences"."""
    parts = [f"{cause.column} is {cause.value} in {cause.rows} of {total} experiences" for cause in causes[:_NAMED]]
    more = len(causes) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


def remedy(causes: Iterable[LeftOut]) -> str:
    """Return what to do about the causes."""
    large = [cause.column for cause in causes if cause.value != "nan"]
    if any(column.startswith("observation") for column in large):
        return "a ray that hits nothing? set agent.observation_limit, and clamp in the engine too"
    if any(column.startswith("critic observation") for column in large):
        return "a ray that hits nothing? clamp it in the engine: agent.observation_limit does not apply to critics"
    return "look for a division by zero in the engine"


def merged(causes: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Return the causes of several rollouts with one entry for each column, the most frequent first."""
    total: dict[str, LeftOut] = {}
    for cause in causes:
        known = total.get(cause.column)
        total[cause.column] = cause if known is None else known._replace(rows=known.rows + cause.rows)
    return tuple(sorted(total.values(), key=lambda cause: -cause.rows))


def _without_unneeded(rollout: Rollout) -> Rollout:
    """Return the rollout with NaN for every log_prob that is not finite, and 0 for such values and parts."""
    changes: dict[str, Any] = {}
    if not _is_finite(rollout.log_probs):
        changes["log_probs"] = np.where(_usable(rollout.log_probs), rollout.log_probs, np.float32(np.nan))
    if not _is_finite(rollout.values):
        changes["values"] = np.where(_usable(rollout.values), rollout.values, np.float32(0.0))
    if not all(map(_is_finite, rollout.reward_parts.values())):
        parts = rollout.reward_parts.items()
        changes["reward_parts"] = {name: np.where(_usable(part), part, np.float32(0.0)) for name, part in parts}
    finals = rollout.final_critic_observations
    if finals is not None and not _is_finite(finals):
        is_known = _usable(finals).all(axis=1, keepdims=True)
        changes["final_critic_observations"] = np.where(is_known, finals, np.float32(np.nan))
    return dataclasses.replace(rollout, **changes) if changes else rollout


def _causes(rollout: Rollout, bad_columns: dict[str, Bools]) -> list[LeftOut]:
    space = rollout.contract.action_space
    values = _needed_columns(rollout)
    found = []
    for kind, bad in bad_columns.items():
        counts = bad.sum(axis=0)
        for index in np.flatnonzero(counts):
            label = f"{kind} {index}" if kind.endswith("observation") else kind
            if kind == "action" and isinstance(space, ContinuousActions):
                label = f"action {space.names[index]}"
            value = float(values[kind][np.argmax(bad[:, index]), index])
            found.append(LeftOut(label, int(counts[index]), f"{value:.2g}"))
    return sorted(found, key=lambda cause: -cause.rows)[:MAX_CAUSES]


def _only(rollout: Rollout, good: Bools, causes: tuple[LeftOut, ...]) -> Rollout:
    """Return the rollout with only the good experiences, and with its gaps marked."""
    last_is_good = {int(agent): bool(ok) for agent, ok in zip(rollout.agents, good, strict=True)}
    keep_final = _usable(rollout.final_observations).all(axis=1)
    keep_final &= np.array([last_is_good.get(int(agent), False) for agent in rollout.final_agents], dtype=bool)
    columns: dict[str, Any] = {
        field.name: value[good]
        for field in dataclasses.fields(rollout)
        if isinstance(value := getattr(rollout, field.name), np.ndarray) and not field.name.startswith("final_")
    }
    columns["after_gap"] = (rollout.after_gap | _follows_bad(good, rollout.agents))[good]
    columns["final_observations"] = rollout.final_observations[keep_final]
    columns["final_agents"] = rollout.final_agents[keep_final]
    if rollout.final_critic_observations is not None:
        columns["final_critic_observations"] = rollout.final_critic_observations[keep_final]
    columns["reward_parts"] = {name: part[good] for name, part in rollout.reward_parts.items()}
    left_out = rollout.left_out + int((~good).sum())
    return dataclasses.replace(rollout, **columns, left_out=left_out, causes=causes)


def _usable(column: Float32) -> Bools:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(column) <= MAX_MAGNITUDE)


def _is_finite(column: Float32) -> bool:
    """Return whether all numbers are finite; a NaN is both the minimum and the maximum of its column."""
    return not column.size or bool(column.min() >= -MAX_MAGNITUDE and column.max() <= MAX_MAGNITUDE)


def _follows_bad(good: Bools, agents: Int32) -> Bools:
    """Return which experiences follow a bad one of the same agent."""
    order = np.argsort(agents, kind="stable")
    same_agent = agents[order][1:] == agents[order][:-1]
    follows = np.zeros(len(good), dtype=bool)
    follows[order[1:]] = same_agent & ~good[order[:-1]]
    return follows
