"""The delay before the next attempt of an operation that failed."""

from __future__ import annotations

_MAX_DOUBLINGS = 64
"""2.0 to the power of 1024 raises OverflowError."""


def backoff_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """Return `first_s` after the first failure and double it with each further one, up to `longest_s`."""
    doublings = min(max(failures - 1, 0), _MAX_DOUBLINGS)
    return min(longest_s, first_s * 2.0**doublings)
