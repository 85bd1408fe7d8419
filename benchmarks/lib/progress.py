"""Progress lines on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Say = Callable[[str], None]


def sayer(name: str, began_s: float | None = None) -> Say:
    """Return a function that writes lines with the time since `began_s`, monotonic, or since now."""
    since = time.monotonic() if began_s is None else began_s

    def say(line: str) -> None:
        print(f"{time.monotonic() - since:5.0f} s  {name}: {line}", file=sys.stderr, flush=True)

    return say
