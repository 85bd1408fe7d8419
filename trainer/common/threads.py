"""How many CPU threads a step gets: measured on the steps themselves, among numbers that give the same bits.

More threads may change the order of additions and with it the last bits of a model, and a stopwatch must not decide
what is learned. So a number of threads is a candidate only where a few steps end in exactly the state that one thread
leads to. A game runs beside us, and threads that wait for a core that a game holds made a step up to a hundred times
slower: so a trial ends as soon as it has taken one thread's time, the steps are looked at again and again, and after a
crowd they go on with one thread for a while, longer each time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from threadpoolctl import threadpool_limits

_WORTH_IT = 0.93
"""More threads must save this much; they take cores from the game."""
_CROWDED = 1.3
"""Steps this many times slower than one thread's pace mean that the cores are wanted elsewhere."""
_LONGEST_REST = 64
_WORK_FOR_MORE = 1e9
"""Minibatch size times parameters above which the rule takes more than one thread."""
_MOST = 8


@dataclass(frozen=True, slots=True)
class Pace:
    """How many threads the next steps take."""

    best: int  #: what the trial chose
    one_thread_s: float  #: seconds a step with one thread; infinite = nobody measured
    resting: int = 0  #: looks for which it stays with one thread
    patience: int = 1  #: how many it will be after the next crowd; doubles, up to `_LONGEST_REST`

    @property
    def is_measured(self) -> bool:
        """Return whether it comes from a trial and not from a rule or a setting."""
        return math.isfinite(self.one_thread_s)

    @property
    def threads(self) -> int:
        """The number now."""
        return 1 if self.resting else self.best

    def after(self, step_s: float) -> Pace:
        """Return the pace for the next steps, from the seconds that each of the last ones took."""
        if self.resting:
            return replace(self, resting=self.resting - 1)
        if self.best > 1 and step_s > _CROWDED * self.one_thread_s:
            return replace(self, resting=self.patience, patience=min(2 * self.patience, _LONGEST_REST))
        return self


def keep_numpy_to_one() -> None:
    """Take numpy's own threads away: what it multiplies here is too small to share, and they get in torch's way."""
    threadpool_limits(1, user_api="blas")


def by_rule(batch_size: int, parameters: int) -> int:
    """Return a number without measuring: 1, unless the minibatches are large."""
    return 1 if batch_size * parameters < _WORK_FOR_MORE else min(os.cpu_count() or 1, _MOST)


def more_than_one() -> list[int]:
    """Return the numbers of threads that are tried after 1."""
    return [n for n in (2, 4, 8) if n <= min(os.cpu_count() or 1, _MOST)]


def fastest(seconds: Callable[[int], float], is_same: Callable[[int], bool], others: Iterable[int]) -> Pace:
    """Try numbers of threads while they pay. `seconds` takes steps with so many threads and gives the time of one;
    `is_same` tells whether that many lead to the bits that one thread leads to.
    """
    one_s = seconds(1)
    best, best_s = 1, one_s
    for n in others:
        if not is_same(n) or (took_s := seconds(n)) > _WORTH_IT * best_s:
            break
        best, best_s = n, took_s
    return Pace(best, one_s)
