"""Compares the times of new files with the daemon's clock, and reports a clock that is off.

File times can be hours off: a share whose server has another clock, two systems on one machine that disagree about the
time zone of its clock, a copying tool that keeps times. Models are found by log_probs, so a wrong clock loses nothing.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping

from daemon.ledger.ledger import Ledger
from daemon.runtime.context import Context
from schemas.text import printable

LARGE_OFFSET_S = 60.0
"""A smaller difference is not reported: writing and copying take time, and some disks round to two seconds."""
SCANS_COMPARED = 3
"""An offset is known if the new files of this many scans have the same one; it ends after as many without it."""
SAME_OFFSET_S = 10.0
_KEY = "file_clock_offset_s"


def stored_clock_offset_s(ledger: Ledger) -> float:
    """Return how far the times of files were ahead of the daemon's clock when last measured; 0 if they were not."""
    return float(ledger.meta(_KEY) or 0.0)


class FileClock:
    """Measures the offset of file times, on files that appear while the daemon watches."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offsets: deque[float] = deque(maxlen=SCANS_COMPARED)
        self._scan = (0.0, 0.0)  # when it began: monotonic, wall clock
        self._has_scanned = False
        self._right_in_a_row = 0
        self._reported_s = 0.0
        self._has_reported_own = False

    def observe(self, names: Mapping[str, float], *, scan: tuple[float, float]) -> None:
        """Compare the times of files that a scan found and the one before did not: name -> time, s since 1970.

        `scan` is when it began, on the monotonic and on the wall clock.
        """
        (before_s, before_wall_s), self._scan = self._scan, scan
        waited_s = scan[0] - before_s
        is_first, self._has_scanned = not self._has_scanned, True
        self._check_own_clock(scan[1], jump_s=0.0 if is_first else scan[1] - before_wall_s - waited_s)
        if is_first or not names:  # the files of the first scan may have any age
            return
        name, written_s = max(names.items(), key=lambda item: item[1])  # if several came at once, the newest one
        offset_s = written_s - scan[1]
        if -waited_s - LARGE_OFFSET_S <= offset_s <= LARGE_OFFSET_S:
            self._right_in_a_row += 1
            if self._right_in_a_row >= SCANS_COMPARED:
                self._offsets.clear()
                self._set_offset(0.0, name)
            return
        self._right_in_a_row = 0
        self._offsets.append(offset_s)
        is_steady = max(self._offsets) - min(self._offsets) <= SAME_OFFSET_S + waited_s
        if len(self._offsets) == SCANS_COMPARED and is_steady:
            self._set_offset(statistics.median(self._offsets), name)

    def _set_offset(self, offset_s: float, name: str) -> None:
        """Store an offset if it has changed, and report it once."""
        context = self._context
        if abs(offset_s - stored_clock_offset_s(context.ledger)) > SAME_OFFSET_S:
            context.ledger.set_meta(_KEY, f"{offset_s:.0f}" if offset_s else None)
        if abs(offset_s - self._reported_s) <= LARGE_OFFSET_S:
            return
        self._reported_s = offset_s
        if not offset_s:
            context.clear_warning("W_CLOCK")
            return
        context.warn(
            "W_CLOCK",
            f"the times of new rollouts are {offset_in_words(offset_s)} this machine's clock (last seen on "
            f"{printable(name)}): the model that recorded them is found by their log_probs, so nothing is lost -> set "
            "both clocks right, or let the tool that copies the files write new times",
        )

    def _check_own_clock(self, now_s: float, *, jump_s: float) -> None:
        """Report once that this machine's clock was set back: before the last publication, or between two scans."""
        if self._has_reported_own:
            return
        last = self._context.ledger.last_publication()
        offset_s = min(jump_s, now_s - last.at_s if last else 0.0)
        if offset_s < -LARGE_OFFSET_S:
            self._has_reported_own = True
            self._context.warn(
                "W_CLOCK",
                f"this machine's clock was set back: it is {offset_in_words(offset_s)} an earlier time. Cycles are "
                "ordered by number and models are found by log_probs, so nothing is lost -> check the clock",
            )


def offset_in_words(offset_s: float) -> str:
    """Return an offset in words: `2 h 5 min behind`."""
    seconds = abs(round(offset_s))
    seconds = seconds if seconds < 600 else 60 * round(seconds / 60)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        size = f"{days} d {hours} h"
    elif hours:
        size = f"{hours} h {minutes} min"
    else:
        size = f"{minutes} min" if seconds >= 600 else f"{seconds} s"
    return f"{size} {'ahead of' if offset_s > 0 else 'behind'}"
