"""Recover which rows belong to the same agent, from the rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.tracks.assignment import assigned
from schemas.tracks.columns import Bools, Int64, scaled_actions, scaled_observations
from schemas.tracks.detection import WINDOW
from schemas.tracks.step_model import Links, best_model, fitted, mutual_links
from schemas.tracks.ticks import tick_starts

_ROUNDS = 2
_LEAST_PROBABILITY = 0.5
"""A track ends if its next row is less probable than this: a missing step costs less than a wrong one."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks in some rows."""

    track: Int64  #: [n], the number of each row's track, from 0; rows of a track are in the order of time
    agents: int  #: how many agents there usually are at the same time
    confidence: float  #: from 0 to 1, the expected share of the steps whose next row was found


def recovered(observations: np.ndarray, actions: np.ndarray, ended: Bools) -> Tracks:
    """Return the tracks in rows that several agents wrote in turns, in any order, coming and going.

    Each agent has at most one row in a tick. A track ends with its episode, if the agent is missing in a tick, and if
    its next row is uncertain.
    """
    n = len(observations)
    columns, controls = scaled_observations(observations), scaled_actions(actions)
    model = best_model(columns, controls, ended) if columns.shape[1] else None
    if model is None:
        return Tracks(np.arange(n), 1, 0.0)
    window = min(WINDOW, n - 1)
    for turn in range(_ROUNDS):
        costs = model.costs(columns, controls, ended, window)
        nearest = mutual_links(costs)
        starts = tick_starts(nearest, n)
        links, probability = assigned(costs, starts, nearest)
        if turn < _ROUNDS - 1 and len(links):
            model = fitted(columns, controls, links)
    certain = probability >= _LEAST_PROBABILITY
    expected = int((~ended[: starts[-2]]).sum())
    return Tracks(
        track=_numbered(Links(links.before[certain], links.after[certain]), n),
        agents=round(float(np.median(np.repeat(np.diff(starts), np.diff(starts))))),
        confidence=float(min(1.0, probability[certain].sum() / max(1, expected))),
    )


def _numbered(links: Links, n: int) -> Int64:
    """Return the number of each row's track: a row without a predecessor begins a track."""
    before = np.full(n, -1, dtype=np.int64)
    before[links.after] = links.before
    track = np.empty(n, dtype=np.int64)
    count = 0
    for row, predecessor in enumerate(before.tolist()):
        if predecessor < 0:
            track[row], count = count, count + 1
        else:
            track[row] = track[predecessor]
    return track
