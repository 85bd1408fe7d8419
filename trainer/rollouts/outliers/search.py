"""Find the outliers in the columns of steps, and let them count as numbers at the edge of the usual range.

Rollouts and batches of online training are searched by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.contract import ActionSpace, ContinuousActions
from schemas.rollout.rollout import Bools
from trainer.common.shapes import Float64, Int64
from trainer.networks.normaliser import Normalisers, ObservationNormaliser
from trainer.rollouts.experiences import Experiences
from trainer.rollouts.outliers.limits import (
    FACTOR,
    LASTING_STEPS,
    Before,
    ColumnOutliers,
    LongRuns,
    columns_to_check,
    find_outliers,
)

_SPREAD_OF_NORMAL = 2.6
"""The spread of normally distributed numbers, in standard deviations."""
_LOG_PROB_SPREAD = 10.0
"""Least spread of log_probs for each action, nats."""
_FINALS = {"observation_BO": "final_observation_FO", "critic_observation_BP": "final_critic_observation_FP"}


class Found(NamedTuple):
    """Outliers of one column; their rows are those of `Experiences`."""

    column: str  #: the field of `Experiences`
    place: int  #: of the number in this field
    outliers: ColumnOutliers
    name: str  #: in words: "observation 5", "action steer", "reward"


@dataclass(frozen=True, slots=True)
class Usual:
    """What earlier steps say about the columns."""

    rows: float
    mean_O: Float64
    spread_O: Float64
    largest_reward: float  #: that was used before; 0 = not known

    @classmethod
    def of(cls, normalisers: Normalisers, gamma: float) -> Usual:
        """Return what a policy's normalisers say; nothing if outliers may have changed them in an earlier version."""
        observations, returns = normalisers.observations, normalisers.returns
        if returns.is_set and not returns.reach:
            observations = ObservationNormaliser.identity(len(observations.mean_O))
        std_O = observations.var_O.sqrt().numpy() if observations.count else np.zeros(len(observations.mean_O))
        spread_O = _SPREAD_OF_NORMAL * std_O
        return cls(observations.count, observations.mean_O.numpy(), spread_O, returns.largest_reward(gamma))


def find(experiences: Experiences, space: ActionSpace, usual: Usual) -> list[Found]:
    """Return the outliers of steps. New and old steps are judged apart: a game may have changed between them."""
    found: list[Found] = []
    is_new_B = experiences.is_new_B
    for column, rule in _columns(experiences, space, usual):
        values_BX, finals = getattr(experiences, column), _FINALS.get(column)
        values_BX, is_new_R = values_BX.reshape(len(values_BX), -1), is_new_B
        if finals is not None and len(final_FX := getattr(experiences, finals)):
            values_BX = np.concatenate([values_BX, final_FX])
            is_new_R = np.append(is_new_B, _finals_are_new(experiences))
        for is_chosen_R in (is_new_R, ~is_new_R):
            if not is_chosen_R.any():
                continue
            rows = np.flatnonzero(is_chosen_R)
            chosen_BX = values_BX if len(rows) == len(values_BX) else values_BX[rows]
            for index, outliers in _in_columns(chosen_BX, column, rule, _LongRuns(experiences, rows)):
                name = _name(column, index, space)
                found.append(Found(column, index, replace(outliers, rows=rows[outliers.rows]), name))
    return found


def _finals_are_new(experiences: Experiences) -> Bools:
    """Return which final observations [F] follow new steps."""
    is_new_F = np.ones(len(experiences.final_observation_FO), dtype=bool)
    has_final_B = experiences.final_B >= 0
    is_new_F[experiences.final_B[has_final_B]] = experiences.is_new_B[has_final_B]
    return is_new_F


def without_outliers(experiences: Experiences, found: Sequence[Found]) -> Experiences:
    """Return experiences in which each outlier counts as what `found` says. A log_prob then counts as not recorded."""
    changed: dict[str, Any] = {}

    def copied(name: str) -> npt.NDArray[Any]:
        if name not in changed:
            changed[name] = getattr(experiences, name).copy()
        return np.asarray(changed[name])

    for column, place, outliers, _ in found:
        is_step = outliers.rows < experiences.size
        for name, rows, values in (
            (column, outliers.rows[is_step], outliers.values[is_step]),
            (_FINALS.get(column, ""), outliers.rows[~is_step] - experiences.size, outliers.values[~is_step]),
        ):
            if len(rows) and column == "log_prob_B":
                copied(name)[rows] = np.nan
            elif len(rows):
                array = copied(name)
                array.reshape(len(array), -1)[rows, place] = values
        if column == "action_BA":  # the recorded log_prob is that of another action
            copied("log_prob_B")[outliers.rows] = np.nan
    return replace(experiences, **changed) if changed else experiences


class _Rule(NamedTuple):
    """How a field is judged: what is known of its columns, and what makes a large number count."""

    rows: float
    center_X: Float64
    spread_X: Float64
    recurs: bool = False
    lasts: bool = False


def _columns(experiences: Experiences, space: ActionSpace, usual: Usual) -> Iterator[tuple[str, _Rule]]:
    """Yield the fields that are searched."""
    yield "observation_BO", _Rule(usual.rows, usual.mean_O, usual.spread_O, lasts=True)
    if width := experiences.critic_width:
        yield "critic_observation_BP", _Rule(0.0, np.zeros(width), np.zeros(width), lasts=True)
    reward = np.array([2.0 * usual.largest_reward / FACTOR])  # twice, because the median may be as large
    yield "reward_B", _Rule(usual.rows, np.zeros(1), reward, recurs=True)
    if isinstance(space, ContinuousActions):
        low_A, high_A = np.array(space.low), np.array(space.high)
        yield "action_BA", _Rule(0.0, (low_A + high_A) / 2.0, high_A - low_A)
        yield "log_prob_B", _Rule(0.0, np.zeros(1), np.array([_LOG_PROB_SPREAD * space.width]))


def _in_columns(
    values_BX: npt.NDArray[Any], column: str, rule: _Rule, long_runs: LongRuns
) -> Iterator[tuple[int, ColumnOutliers]]:
    """Yield the index of each number that has outliers, and these. Rows that are not known are not judged."""
    known: Int64 | None = None
    if column in {"critic_observation_BP", "log_prob_B"} and (is_nan_B := np.isnan(values_BX).any(axis=1)).any():
        known = np.flatnonzero(~is_nan_B)
        values_BX = values_BX[known]
    for index in columns_to_check(values_BX, rule.spread_X, rule.rows):
        before = Before(rule.rows, float(rule.center_X[index]), float(rule.spread_X[index]))
        column_B = values_BX[:, index].astype(np.float64)
        lasting = long_runs if rule.lasts and known is None else None
        outliers = find_outliers(column_B, before, recurs=rule.recurs, long_runs=lasting)
        if outliers is not None:
            yield int(index), outliers if known is None else replace(outliers, rows=known[outliers.rows])


class _LongRuns:
    """Finds consecutive steps of one agent among some rows."""

    def __init__(self, experiences: Experiences, rows: Int64) -> None:
        finals = np.zeros(len(experiences.final_observation_FO), dtype=bool)
        self._follows_B = np.concatenate([[False], experiences.has_next_row_B[:-1], finals])
        self._rows = rows

    def __call__(self, is_far_R: Bools) -> Bools:
        is_far_B = np.zeros(len(self._follows_B), dtype=bool)
        is_far_B[self._rows] = is_far_R
        starts_B = is_far_B & ~(self._follows_B & np.append(False, is_far_B[:-1]))
        run_B = np.cumsum(starts_B)
        length = np.bincount(run_B[is_far_B], minlength=int(run_B[-1]) + 1)
        return np.asarray((is_far_B & (length[run_B] >= LASTING_STEPS))[self._rows])


def _name(column: str, index: int, space: ActionSpace) -> str:
    match column:
        case "observation_BO":
            return f"observation {index}"
        case "critic_observation_BP":
            return f"critic observation {index}"
        case "action_BA" if isinstance(space, ContinuousActions):
            return f"action {space.names[index]}"
    return "reward" if column == "reward_B" else "log_prob"
