"""Schedules: values that change during training."""

from __future__ import annotations


def linear_schedule(first: float, last: float, progress: float) -> float:
    """Return the value at `progress` of a line from `first` at 0 to `last` at 1, which is constant before and after."""
    return first + (last - first) * min(1.0, max(0.0, progress))


def scheduled(first: float, last: float | None, cycle: int, cycles: int) -> float:
    """Return the value of a linear schedule in a cycle: `first` in cycle 1, `last` from cycle `cycles` on.

    Without `last` it is constant.
    """
    progress = (cycle - 1) / max(1, cycles - 1)
    return first if last is None else linear_schedule(first, last, progress)
