"""The delay before the next attempt, for everything that is tried again."""

from __future__ import annotations

_MAX_DOUBLINGS = 64
"""More would overflow a float in time."""


def backoff_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Return `first_s` after the first failure and double it with each further one, up to `longest_s`."""
    doublings = min(max(failures - 1, 0), _MAX_DOUBLINGS)
    return min(longest_s, first_s * 2.0**doublings)
