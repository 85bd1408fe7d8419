"""Progress lines on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

PrintProgress = Callable[[str], None]


def progress_printer(name: str, began_s: float | None = None) -> PrintProgress:
    """Return a function that prints lines with the seconds since `began_s` (monotonic) or since now."""
    since = time.monotonic() if began_s is None else began_s

    def print_progress(line: str) -> None:
        print(f"{time.monotonic() - since:5.0f} s  {name}: {line}", file=sys.stderr, flush=True)

    return print_progress
