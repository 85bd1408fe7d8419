"""Schedules: values that change during training."""

from __future__ import annotations


def linear_schedule(first: float, last: float, progress: float) -> float:
    """Return the value at `progress` of a line from `first` at 0 to `last` at 1, which is constant before and after."""
    return first + (last - first) * min(1.0, max(0.0, progress))
