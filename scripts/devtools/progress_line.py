"""A progress line on the console: rewritten on a terminal, and repeated from time to time elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class ProgressLine:
    """Writes lines, and knows when the current one is due again."""

    def __init__(self, out: Any = None, now: Callable[[], float] = time.monotonic, *, repeat_s: float = 10.0) -> None:
        self._out, self.now, self._repeat_s = out or sys.stdout, now, repeat_s
        self.is_terminal = bool(self._out.isatty())
        self.started_s = self.shown_s = now()

    def is_due(self) -> bool:
        """Return whether the line is old enough to be shown again."""
        return self.now() - self.shown_s >= (0.5 if self.is_terminal else self._repeat_s)

    def elapsed_s(self) -> float:
        """Note that the line is shown now; return the seconds since the start."""
        self.shown_s = self.now()
        return self.shown_s - self.started_s

    def write(self, text: str, *, final: bool = True) -> None:
        """Write a line. On a terminal the next one replaces it, unless it is final."""
        if self.is_terminal and text:  # a line of full width would wrap and stay on the screen
            width = shutil.get_terminal_size().columns - 1
            text = "\r" + text[:width].ljust(width)
        self._out.write(text + ("\n" if final or not self.is_terminal else ""))
        self._out.flush()
