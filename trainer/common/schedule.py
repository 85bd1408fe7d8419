"""Values that change from a first to a last one while training goes on."""

from __future__ import annotations


def linear_schedule(first: float, last: float, progress: float) -> float:
    """Return the value on the line from `first` at progress 0 to `last` at progress 1; it is constant outside."""
    return first + (last - first) * min(1.0, max(0.0, progress))
