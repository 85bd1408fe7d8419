"""The number of CPU threads: setting it, and choosing it by measurement.

More threads can change the order of additions, and with it the last bits of a model. The result of training must not
depend on a measured time. So a number of threads is a candidate only if a few steps with it end in exactly the same
bits as with one thread.

A game runs on the same cores. Threads that wait for a core that the game uses make a step up to a hundred times slower.
So the trial of a number ends once it has taken as long as one thread's trial, and step times are checked continuously:
if the cores are contended, training falls back to one thread, each time for twice as long.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from threadpoolctl import threadpool_limits

from trainer.common.autotune import Autotuner

_MIN_SAVING = 0.07
"""Part of a step's time that more threads must save, because they use cores that the game could use."""
_CONTENTION_FACTOR = 1.3
"""The cores are contended if steps take this many times as long as with one thread."""
_MAX_CHECKS_WITH_ONE = 64
_MIN_WORK_FOR_MORE = 1e9
"""Minibatch size times parameters from which on more than one thread is used without measuring."""
_MAX_THREADS = 8
_busy_cores = 0


def leave_cores(count: int) -> None:
    """Let `counts_to_try` leave out as many cores, in the whole process, because another process needs them."""
    global _busy_cores  # one trainer has one job
    _busy_cores = count


def set_thread_count(count: int) -> None:
    """Set the number of threads that torch uses for one operation, in the whole process."""
    torch.set_num_threads(count)


def limit_numpy_to_one_thread() -> None:
    """Let numpy multiply in one thread: its matrices are small here, and its threads would delay those of torch."""
    threadpool_limits(1, user_api="blas")


def count_by_size(batch_size: int, parameters: int) -> int:
    """Return a number of threads without measuring: 1, unless the minibatches are large."""
    return 1 if batch_size * parameters < _MIN_WORK_FOR_MORE else min(os.cpu_count() or 1, _MAX_THREADS)


def counts_to_try() -> list[int]:
    """Return the numbers of threads that are tried after 1."""
    return [n for n in (2, 4, 8) if n <= min((os.cpu_count() or 1) - _busy_cores, _MAX_THREADS)]


@dataclass(frozen=True, slots=True)
class ThreadCount:
    """The number of threads for the next steps: the tuned one, or 1 while the cores are contended."""

    tuned: int
    one_thread_step_s: float  #: seconds of a step with one thread; infinite = not measured
    checks_with_one: int = 0  #: checks for which one thread is used from now on
    next_checks_with_one: int = 1  #: number of such checks after the next contention; doubles, up to a limit

    @property
    def is_measured(self) -> bool:
        """Return whether the number comes from a trial, and not from the settings or the size of the work."""
        return math.isfinite(self.one_thread_step_s)

    @property
    def current(self) -> int:
        """Return the number to use now."""
        return 1 if self.checks_with_one else self.tuned

    def checked(self, step_s: float) -> ThreadCount:
        """Return the number for the next steps; `step_s` is the mean time of a step since the last check."""
        if self.checks_with_one:
            return replace(self, checks_with_one=self.checks_with_one - 1)
        if self.tuned > 1 and step_s > _CONTENTION_FACTOR * self.one_thread_step_s:
            longer = min(2 * self.next_checks_with_one, _MAX_CHECKS_WITH_ONE)
            return replace(self, checks_with_one=self.next_checks_with_one, next_checks_with_one=longer)
        return self


def tune_thread_count(
    step_seconds: Callable[[int], float], has_same_result: Callable[[int], bool], candidates: Iterable[int]
) -> ThreadCount:
    """Try numbers of threads as long as each one is faster than the one before.

    `step_seconds` does steps with a number of threads and returns the seconds of one step. `has_same_result` returns
    whether a number of threads leads to the same bits as one thread.
    """
    one_thread_step_s = step_seconds(1)

    def measure(count: int) -> float:
        if count == 1:
            return one_thread_step_s
        return step_seconds(count) if has_same_result(count) else math.inf

    tuner = Autotuner([1, *candidates], min_saving=_MIN_SAVING, stop_at_first_loss=True)
    return ThreadCount(tuner.choose(measure), one_thread_step_s)
