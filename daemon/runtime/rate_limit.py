"""Limits how often one kind of message is logged: many bad files must not fill the log."""

from __future__ import annotations

WINDOW_S = 60.0
BURST = 20
"""How many messages of one kind are logged in a window. Further messages are only counted."""


class RateLimit:
    """Counts messages by kind and limits their number."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}
        self._suppressed: dict[str, int] = {}

    def allows(self, kind: str, now: float) -> bool:
        """Return whether another message of this kind may be logged; `now` is in monotonic seconds."""
        since, count = self._windows.get(kind, (now, 0))
        if now - since >= WINDOW_S:
            since, count = now, 0
        self._windows[kind] = (since, count + 1)
        if count < BURST:
            return True
        self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
        return False

    def take_suppressed(self, kind: str) -> int:
        """Return how many messages of this kind were suppressed since the last call."""
        return self._suppressed.pop(kind, 0)
