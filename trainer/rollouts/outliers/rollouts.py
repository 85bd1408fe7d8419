"""The outliers of a cycle's rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from schemas.contract import ActionSpace
from schemas.rollout.rollout import Rollout
from schemas.text import printable
from trainer.checkpoints.parent import Parent
from trainer.common.reporting.reporter import Notices
from trainer.common.shapes import Int64
from trainer.networks.normaliser import rescale_inputs
from trainer.rollouts.experiences import Experiences, by_agent, concatenate
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.outliers.recovery import recovered
from trainer.rollouts.outliers.report import in_words, message
from trainer.rollouts.outliers.search import Found, Usual, find, without_outliers

_COLUMN_OF_FIELD = {
    "observation_BO": "observations",
    "critic_observation_BP": "critic_observations",
    "action_BA": "actions",
    "reward_B": "rewards",
    "log_prob_B": "log_probs",
}


def limit_outliers(
    loaded: Sequence[LoadedRollout], space: ActionSpace, usual: Usual, notices: Notices
) -> list[LoadedRollout]:
    """Return the rollouts with each outlier as the number that it counts as; those of new rollouts are reported.

    Rollouts without outliers are returned as they are.
    """
    parts = [by_agent(item.rollout, is_new=item.entry.is_new) for item in loaded]
    experiences = concatenate(parts)
    found = find(experiences, space, usual)
    if not found:
        return list(loaded)
    steps = np.cumsum([0, *(part.size for part in parts)])
    finals = np.cumsum([0, *(len(part.final_observation_FO) for part in parts)])
    limited = without_outliers(experiences, found)
    _report(loaded, experiences, found, steps, notices)
    changed = list(loaded)
    for number in sorted({int(n) for one in found for n in _rollouts_of(one, steps, finals)}):
        some = slice(steps[number], steps[number + 1]), slice(finals[number], finals[number + 1])
        rollout = _with_columns(loaded[number].rollout, limited, *some)
        changed[number] = replace(loaded[number], rollout=rollout, is_limited=True)
    return changed


def recovered_parent(parent: Parent, loaded: Sequence[LoadedRollout], gamma: float, notices: Notices) -> Parent:
    """Return a parent without the influence that outliers had on it in an earlier version, and report it.

    The policy computes what it did. Critics and optimizers are in the units of the statistics: they are left out.
    """
    rollouts = [item.rollout for item in loaded]
    recovery = recovered(
        parent.normalisers,
        np.concatenate([rollout.observations for rollout in rollouts]),
        np.concatenate([rollout.rewards for rollout in rollouts]),
        gamma,
    )
    if not (text := recovery.in_words()):
        return parent
    notices.send("W_RECOVERED", text)
    rescale_inputs(parent.network.stacks(), parent.normalisers.observations, recovery.normalisers.observations)
    return replace(parent, normalisers=recovery.normalisers, optimizer_state={}, critics_state={})


def _rollouts_of(found: Found, steps: Int64, finals: Int64) -> Int64:
    """Return the numbers of the rollouts that contain some outliers."""
    rows, size = found.outliers.rows, int(steps[-1])
    of_steps = np.searchsorted(steps, rows[rows < size], side="right") - 1
    of_finals = np.searchsorted(finals, rows[rows >= size] - size, side="right") - 1
    return np.unique(np.concatenate([of_steps, of_finals]))


def _with_columns(rollout: Rollout, limited: Experiences, rows: slice, finals: slice) -> Rollout:
    """Return a rollout with the columns of the experiences in these rows, in the order of its file."""
    order = np.argsort(rollout.agents, kind="stable")
    changed: dict[str, Any] = {}
    for name, field in _COLUMN_OF_FIELD.items():
        if field == "critic_observations" and rollout.critic_width != limited.critic_width:
            continue
        if getattr(rollout, field) is None or not getattr(limited, name).size:
            continue
        values = np.empty_like(getattr(rollout, field))
        values[order] = getattr(limited, name)[rows]
        changed[field] = values
    changed["final_observations"] = limited.final_observation_FO[finals]
    if rollout.final_critic_observations is not None and "critic_observations" in changed:
        changed["final_critic_observations"] = limited.final_critic_observation_FP[finals]
    return replace(rollout, **changed)


def _report(
    loaded: Sequence[LoadedRollout], experiences: Experiences, found: Sequence[Found], steps: Int64, notices: Notices
) -> None:
    """Send one notice about the outliers of new rollouts, those in most steps first."""
    parts: list[tuple[int, str]] = []
    for one in found:
        rows = one.outliers.rows[one.outliers.rows < experiences.size]
        numbers = np.searchsorted(steps, rows, side="right") - 1
        values_BX = getattr(experiences, one.column)
        column_B = values_BX.reshape(len(values_BX), -1)[:, one.place]
        for number in np.unique(numbers):
            item = loaded[number]
            if not item.entry.is_new:
                continue
            values = column_B[rows[numbers == number]]
            largest = float(values[np.argmax(np.abs(values))])
            words = in_words(one, len(values), largest, item.rollout.size)
            parts.append((len(values), f"{printable(item.entry.name)}: {words}"))
    if parts:
        parts.sort(key=lambda part: -part[0])
        notices.send("W_OUTLIERS", message([text for _, text in parts]))
