"""Find the ticks in the rows of several agents: each agent has one row in each tick, in any order."""

from __future__ import annotations

import numpy as np

from schemas.tracks.columns import Float64, Int64
from schemas.tracks.step_model import Links

LARGEST_TICK = 96
_CHANGE_COST = 0.05
"""What it costs, in links, if the number of agents changes by one. A wrong boundary costs several links."""


def tick_starts(links: Links, n: int) -> Int64:
    """Return the first row of each tick, and n at the end.

    The boundaries are those that the most links respect: a link leads from a tick to the next one.
    """
    largest = _largest_tick(links, n)
    following = np.full(n, -1, dtype=np.int64)
    following[links.before] = links.after
    best = np.full((n + 1, largest + 1), -np.inf)  # best[end, size]: links up to the tick that ends there
    best[np.arange(1, min(largest, n) + 1), np.arange(1, min(largest, n) + 1)] = 0.0
    size_before = np.zeros((n + 1, largest + 1), dtype=np.int16)
    sizes = np.arange(1, largest + 1)
    change = _CHANGE_COST * np.abs(sizes[:, None] - sizes[None, :])
    for end in range(1, n):
        rows = min(largest, end)
        next_sizes = min(largest, n - end)
        respected = _respected(following, end, rows, next_sizes)
        totals = best[end, 1 : rows + 1, None] + respected - change[:rows, :next_sizes]
        chosen = totals.argmax(axis=0)
        reached = end + sizes[:next_sizes]
        best[reached, sizes[:next_sizes]] = totals[chosen, np.arange(next_sizes)]
        size_before[reached, sizes[:next_sizes]] = chosen + 1
    return _traced(best, size_before, n)


def _largest_tick(links: Links, n: int) -> int:
    """Return a bound for the number of agents: the successor of a row is on average that many rows later."""
    typical = float(np.quantile(links.gaps, 0.75)) if len(links) else 1.0
    return int(min(LARGEST_TICK, n, np.ceil(1.25 * typical) + 2))


def _respected(following: Int64, end: int, rows: int, next_sizes: int) -> Float64:
    """Return [size - 1, next size - 1]: how many links lead from the tick before `end` to the tick after it."""
    offset = following[end - rows : end][::-1] - end
    counts = np.zeros((rows, next_sizes))
    source = np.flatnonzero((offset >= 0) & (offset < next_sizes))
    counts[source, offset[source]] = 1.0
    return np.asarray(counts.cumsum(axis=0).cumsum(axis=1), dtype=np.float64)


def _traced(best: Float64, size_before: np.ndarray, n: int) -> Int64:
    starts, end, size = [n], n, int(best[n, 1:].argmax()) + 1
    while end > 0:
        end, size = end - size, int(size_before[end, size])
        starts.append(end)
    return np.array(starts[::-1], dtype=np.int64)
