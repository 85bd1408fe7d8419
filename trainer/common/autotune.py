"""Choose the fastest of several options by timing real work with each of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Option = TypeVar("Option")


class Autotuner(Generic[Option]):
    """Chooses an option: `current` is the option for the next piece of work, `record` stores the time that it took.

    Put options that take more cores last: an option must be faster than the best one before it by `min_saving`, a
    part of the time. Several rounds try the options in turn, and the median of an option's times counts.
    """

    def __init__(
        self,
        options: Sequence[Option],
        *,
        rounds: int = 1,
        min_saving: float = 0.0,
        give_up_factor: float = math.inf,
        stop_at_first_loss: bool = False,
    ) -> None:
        """Create a trial of all options.

        `give_up_factor`: an option that takes this many times the longest time of the first one is not tried again.
        `stop_at_first_loss`: the trial ends at the first option that is not better than those before it; for one round.
        """
        self._options = options
        self._seconds: list[list[float]] = [[] for _ in options]
        self._queue = list(range(len(options))) * rounds
        self._min_saving, self._give_up_factor = min_saving, give_up_factor
        self._stop_at_first_loss = stop_at_first_loss
        self._chosen = 0

    @property
    def is_decided(self) -> bool:
        """Return whether the trial has ended."""
        return not self._queue

    @property
    def current(self) -> Option:
        """Return the option to use now: the next one to try, or the chosen one."""
        return self._options[self._queue[0] if self._queue else self._chosen]

    def record(self, seconds: float) -> None:
        """Record how long the work took with the current option. After the trial this changes nothing."""
        if self.is_decided:
            return
        option = self._queue.pop(0)
        self._seconds[option].append(seconds)
        if option and seconds > self._give_up_factor * max(self._seconds[0]):
            self._queue = [other for other in self._queue if other != option]
            self._seconds[option] = []
        self._chosen = self._best()
        if self._stop_at_first_loss and self._chosen != option:
            self._queue = []

    def choose(self, measure: Callable[[Option], float]) -> Option:
        """Try all options, and return the chosen one. `measure` does the work and returns the seconds that it took."""
        while not self.is_decided:
            self.record(measure(self.current))
        return self.current

    def _best(self) -> int:
        best, best_s = 0, statistics.median(self._seconds[0])
        for option, measured in enumerate(self._seconds[1:], start=1):
            if measured and (median_s := statistics.median(measured)) < (1.0 - self._min_saving) * best_s:
                best, best_s = option, median_s
        return best
