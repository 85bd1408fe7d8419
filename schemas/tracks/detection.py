"""Find out whether the rows under one agent_index are the steps of several agents."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.tracks.columns import Bools, Float64, Int64, scaled_actions, scaled_observations
from schemas.tracks.continuity import is_continuous
from schemas.tracks.step_model import Links, best_model, mutual_links

FEWEST_ROWS = 96
"""Fewer rows under one index are not tested."""
_UNUSUALLY_MANY = 1.5
WINDOW = 128
"""Rows among which a row's successor is searched: 32 agents in any order are at most 63 rows apart."""
_TRIAL_WINDOWS = (4, 12, 40, 120)
_CONCENTRATION = 4.0
"""How clearly the successors must be nearer than at random, in units of Kolmogorov and Smirnov's statistic."""
_CHAINED = 0.15
"""How much of the error a prediction from the row before may remove if that row is of another agent."""
_CHAINED_COLUMNS = 0.2
_CHAINED_CLEARLY = 0.2
_NEXT_ROW_IS_USUAL = 0.8
_MANY, _NEARLY_ALL = 0.6, 0.85
_LATER_CLEARLY, _LATER_VERY_CLEARLY = 2.5, 3.3
_FAR = 12
_FEWEST_STEPS, _MORE_SIMILAR = 30, 0.35


def has_several_agents(observations: npt.NDArray[np.float32], actions: npt.NDArray[np.float32], ended: Bools) -> bool:
    """Return whether all rows, in the order of the file, are the steps of several agents that take turns."""
    return bool(indices_of_several(observations, actions, ended, np.zeros(len(ended), dtype=np.int32)))


def indices_of_several(
    observations: npt.NDArray[np.float32], actions: npt.NDArray[np.float32], ended: Bools, agents: npt.NDArray[np.int32]
) -> list[int]:
    """Return the agent_index of which the rows are the steps of several agents that take turns.

    It is so if the row before tells nothing about a row that an earlier row does not tell, but earlier rows at a
    typical distance do. Of several indices, that with the most rows and those with unusually many are tested first,
    and the others if one of these is shared.
    """
    if len(agents) < FEWEST_ROWS:
        return []
    if (agents == agents[0]).all():
        rows = np.arange(len(agents))
        return [int(agents[0])] if _is_several(observations, actions, ended, rows) else []
    indices, counts = np.unique(agents, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    tested = indices[order[counts[order] >= FEWEST_ROWS]].tolist()

    def found(chosen: list[int]) -> list[int]:
        parts = ((index, np.flatnonzero(agents == index)) for index in chosen)
        return [i for i, rows in parts if _is_several(observations, actions, ended, rows)]

    many = int((counts[order] > _UNUSUALLY_MANY * np.median(counts)).sum())
    first = found(tested[: max(1, many)])
    return first + found(tested[max(1, many) :]) if first else []


def _is_several(
    observations: npt.NDArray[np.float32],
    actions: npt.NDArray[np.float32],
    ended: Bools,
    rows: Int64,
) -> bool:
    if is_continuous(observations, ended, rows):
        return False
    columns = scaled_observations(observations[rows])
    return bool(columns.shape[1]) and _takes_turns(columns, scaled_actions(actions[rows]), ended[rows])


def _takes_turns(observations: Float64, actions: Float64, ended: Bools) -> bool:
    n = len(observations)
    links = _links(observations, actions, ended, _TRIAL_WINDOWS)
    if len(links) < _MANY * n:  # a model of few pairs may fit nearby pairs by chance if a short window offers no others
        links = _links(observations, actions, ended, (min(_TRIAL_WINDOWS[-1], n // 2 - 1),))
    if not len(links):
        return False
    counts = np.bincount(links.gaps, minlength=WINDOW + 1)[1 : min(WINDOW, n // 2) + 1]
    usual_gap = int(counts[1:].argmax()) + 2
    if _concentration(counts, n) < _CONCENTRATION:
        return False
    share = len(links) / n
    if not _comes_later(counts, _LATER_CLEARLY if share >= _MANY else _LATER_VERY_CLEARLY):
        if share < _MANY or counts[0] >= _NEXT_ROW_IS_USUAL * counts.sum():
            return False
        multiple = usual_gap * -(-_FAR // usual_gap)
        if share < _NEARLY_ALL and _is_chained(observations, actions, ended, multiple, _CHAINED / 2):
            return False
    return not (
        _steps_overlap(links, observations, usual_gap) or _is_chained(observations, actions, ended, usual_gap, _CHAINED)
    )


def _links(observations: Float64, actions: Float64, ended: Bools, windows: tuple[int, ...]) -> Links:
    """Return pairs of different rows that are each other's nearest by the best model of these windows."""
    model = best_model(observations, actions, ended, windows)
    if model is None:
        return Links(np.zeros(0, np.int64), np.zeros(0, np.int64))
    costs = model.costs(observations, actions, ended, min(WINDOW, len(observations) // 2))
    return _changing(mutual_links(costs), observations)


def _changing(links: Links, observations: Float64) -> Links:
    """Return the links whose rows differ: equal rows, as in games with few states, tell nothing about the order."""
    differs = (observations[links.before] != observations[links.after]).any(axis=1)
    return Links(links.before[differs], links.after[differs])


def _concentration(counts: Int64, n: int) -> float:
    """Return how much nearer the successors are than if any row in the window could be one; about 1 at random."""
    at_random = n - np.arange(1.0, len(counts) + 1)
    total = counts.sum()
    excess = np.cumsum(counts) / total - np.cumsum(at_random) / at_random.sum()
    return float(excess.max() * np.sqrt(total))


def _comes_later(counts: Int64, clearly: float) -> bool:
    """Return whether the successor is more often a later row than the next one, in deviations of such counts.

    For one agent, even with noisy sensors, the next row is the successor at least as often as any later one.
    """
    lags = np.arange(1, len(counts))
    later = np.cumsum(counts[1:]) / lags
    return bool(((later - counts[0]) / np.sqrt(counts[0] + 1.0 + later / lags)).max() >= clearly)


def _steps_overlap(links: Links, observations: Float64, gap: int) -> bool:
    """Return whether changes over `gap` rows resemble those of the row before, because they are of the same agent.

    The changes of agents that act alike, as after a common start, resemble those before them at any distance.
    """
    after = links.after[links.gaps == gap]
    next_to, apart = after[np.isin(after - 1, after)], after[np.isin(after - gap, after)]
    if min(len(next_to), len(apart)) < _FEWEST_STEPS:
        return False
    difference = _similarity(observations, next_to, gap, 1) - _similarity(observations, apart, gap, gap)
    return bool(np.median(difference) > _MORE_SIMILAR)


def _similarity(observations: Float64, rows: Int64, gap: int, shift: int) -> Float64:
    """Return each column's correlation of changes over `gap` rows with those `shift` rows before."""
    steps = [observations[at] - observations[at - gap] for at in (rows, rows - shift)]
    one, other = (np.clip(step / (step.std(axis=0) + 1e-9), -3.0, 3.0) for step in steps)
    size = np.sqrt(np.square(one).mean(axis=0) * np.square(other).mean(axis=0))
    return np.asarray((one * other).mean(axis=0) / (size + 1e-9), dtype=np.float64)


def _is_chained(observations: Float64, actions: Float64, ended: Bools, gap: int, largest: float) -> bool:
    """Return whether the row before helps to predict a row, in addition to the row `gap` before.

    It does not if it is of another agent. Games that swing to and fro, so that the row before is far away, are chained.
    """
    rows = np.arange(gap, len(observations))
    rows = rows[~ended[rows - 1]]
    if len(rows) < FEWEST_ROWS // 2:
        return True
    base = np.concatenate([observations[rows - gap], actions[rows - gap]], axis=1)
    more = np.concatenate([base, observations[rows - 1], actions[rows - 1]], axis=1)
    target = observations[rows]
    removed = 1.0 - _error(more, target) / (_error(base, target) + 1e-9)
    return bool(np.median(removed) > largest or (removed > _CHAINED_CLEARLY).mean() >= _CHAINED_COLUMNS)


def _error(features: Float64, target: Float64) -> Float64:
    """Return each column's mean error of a linear prediction, fitted to other parts of the file than it predicts."""
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    part = (np.arange(len(features)) * 8 // len(features)) % 2 == 0
    error = np.empty_like(target)
    for fitted, predicted in ((part, ~part), (~part, part)):
        square = features[fitted].T @ features[fitted]
        square[np.diag_indices_from(square)] += 1.0 + 0.01 * fitted.sum()
        error[predicted] = target[predicted] - features[predicted] @ np.linalg.solve(
            square, features[fitted].T @ target[fitted]
        )
    return np.asarray(np.minimum(np.abs(error), 3.0).mean(axis=0), dtype=np.float64)
