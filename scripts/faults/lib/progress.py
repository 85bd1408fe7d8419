"""Progress of a long run: what is done, the time it took and still takes, and the violations so far.

On a terminal it is one line that is rewritten. Elsewhere a line is written every 30 seconds. It goes to stderr, so that
stdout contains the results alone. After Ctrl-C, the counts so far are printed, and the exit code is 130.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from scripts.devtools.progress_line import ProgressLine

STOPPED = 130
_REPEAT_S = 30.0
_TICK_S = 0.5


class Progress:
    """Shows the progress of `what`, from another thread, between `with` and its end.

    `total` is how many `unit` there are, 0 if that is not known. With `total_s`, a time decides when the run ends.
    """

    def __init__(
        self,
        what: str,
        total: int = 0,
        *,
        unit: str = "runs",
        total_s: float = 0.0,
        out: Any = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = sys.stderr if out is None else out
        self._line = ProgressLine(self._out, now, repeat_s=_REPEAT_S)
        self._what, self._total, self._unit, self._total_s = what, total, unit, total_s
        self._count: Callable[[], int] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self.done = 0
        self.violations = 0
        self.summary: Callable[[], str] = str  #: returns the counts so far, for Ctrl-C

    def begin(self, what: str, total: int = 0, *, unit: str = "") -> None:
        """Begin another part of the run, which is counted from 0. Violations are counted over all parts."""
        with self._lock:
            self._what, self._total, self._unit = what, total, unit or self._unit
            self.done, self._line.started_s = 0, self._line.now()

    def count_with(self, count: Callable[[], int]) -> None:
        """Ask `count` how many are done, for a run in other processes."""
        self._count = count

    def advance(self, done: int = 1, violations: Iterable[object] = ()) -> None:
        """Record that more is done, and the violations that it found."""
        with self._lock:
            self.done += done
            self.violations += sum(1 for _ in violations)

    def text(self) -> str:
        """Return the line."""
        done = self.done if self._count is None else self._count()
        done = min(done, self._total) if self._total else done
        elapsed_s = self._line.elapsed_s()
        left_s = None
        if self._total_s:
            left_s = max(0.0, self._total_s - elapsed_s)
        elif self._total and done:
            left_s = elapsed_s / done * (self._total - done)
        of = f" of {self._total:,}" if self._total else ""
        left = "" if left_s is None else f", about {in_words(left_s)} left"
        found = f"{self.violations} violation{'s' if self.violations != 1 else ''}"
        return f"{self._what}: {done:,}{of} {self._unit}, {in_words(elapsed_s)}{left}, {found} so far"

    def show(self) -> None:
        """Write the line now."""
        with self._lock:
            self._line.write(self.text(), final=False)

    def _refresh(self) -> None:
        while not self._ended.wait(_TICK_S):
            if self._line.is_due():
                self.show()

    def __enter__(self) -> Progress:
        self._thread.start()
        self.show()  # last: whoever reads it may send Ctrl-C at once
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._line.is_terminal:
            self._line.write("\r")  # the results begin on an empty line
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            counts = self.summary()
            self._out.write(f"stopped: {self.text()}{f'; {counts}' if counts else ''}\n")
            self._out.flush()
            raise SystemExit(STOPPED) from None


def in_words(seconds: float) -> str:
    """Return a duration: `42 s`, `3 min 5 s`, `2 h 7 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole // 60 % 60} min"


class NoProgress(Progress):
    """Shows nothing: for callers that need none."""

    def __init__(self) -> None:
        super().__init__("")

    def show(self) -> None:
        """Write nothing."""
