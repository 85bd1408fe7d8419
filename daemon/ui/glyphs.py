"""Elements of panels: characters that the console can print, charts, bars, numbers, cells of a fixed width."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from schemas.text import ascii_safe, printable

Piece = tuple[str, str]
Cells = list[Piece]
"""A part of a line: pieces of clean text, each with a rich style."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters for one kind of console."""

    levels: str  #: of a chart's cell, from the lowest mark to full
    full: str  #: of a bar
    empty: str
    rule: str
    vertical_line: str
    tee: str  #: where a vertical line begins below a rule
    foot: str  #: where a vertical line ends above a rule
    mark: str
    dot: str
    more: str  #: the end of text that was cut
    clean: Callable[[str], str]  #: returns a text without control characters and with characters of this console

    def prints_in(self, encoding: str) -> bool:
        """Return whether an encoding has all these characters."""
        drawn = self.levels + self.full + self.empty + self.rule + self.vertical_line + self.tee + self.foot
        try:
            (drawn + self.mark + self.dot + self.more).encode(encoding)
        except (UnicodeError, LookupError):
            return False
        return True

    def fit(self, cells: Iterable[Piece], width: int) -> Cells:
        """Cut or pad to exactly `width` columns."""
        out: Cells = []
        left = width
        for text, style in cells:
            size = cell_len(text)
            if size > left:
                room = max(0, left - cell_len(self.more))
                out.append((set_cell_size(text, room) + self.more[: left - room], style))
                return out
            out.append((text, style))
            left -= size
        out.append((" " * left, ""))
        return out


BLOCKS = Glyphs("▁▂▃▄▅▆▇█", "━", "─", "─", "│", "┬", "┴", "►", "●", "…", printable)
ASCII = Glyphs(".:-=+*#", "#", ".", "-", "|", "+", "+", ">", "*", "...", ascii_safe)


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return block characters if the encoding has them, else ASCII."""
    return BLOCKS if BLOCKS.prints_in(encoding or "ascii") else ASCII


def bar(fraction: float, width: int, glyphs: Glyphs) -> tuple[str, str]:
    """Return the full and the empty part of a bar. It is full only at 1, and empty only at 0."""
    fraction = min(1.0, max(0.0, fraction))
    done = math.floor(fraction * width)
    if fraction > 0:
        done = max(1, done)
    return glyphs.full * done, glyphs.empty * (width - done)


def resample(values: Sequence[float | None], width: int) -> list[float | None]:
    """Return the values if they are at most `width`, else the means of `width` equal parts of them."""
    if len(values) <= width:
        return list(values)
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    means: list[float | None] = []
    for start, end in itertools.pairwise(edges):
        known = [value for value in values[start:end] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    return means


def chart(values: Sequence[float | None], width: int, height: int, glyphs: Glyphs) -> list[str]:
    """Return a chart of `height` rows with four, two or one columns for each value; a missing value is a gap.

    The lowest value is drawn with the lowest character, not with a space, so that a flat line is visible.
    """
    known = [value for value in values if value is not None]
    if not known or height < 1:
        return [""] * max(0, height)
    steps = len(glyphs.levels)
    columns = resample(values, width)
    low, high = min(known), max(known)
    span = high / 2 - low / 2  # halves, because the difference of two finite numbers may overflow
    tops = []
    for value in columns:
        part = (value / 2 - low / 2) / span if value is not None and span > 0 else 0.0
        tops.append(0 if value is None else 1 + round(part * (height * steps - 1)))
    shades = " " + glyphs.levels
    repeats = next(n for n in (4, 2, 1) if n * len(columns) <= width or n == 1)
    return [
        "".join(shades[min(steps, max(0, top - row * steps))] * repeats for top in tops)
        for row in range(height - 1, -1, -1)
    ]


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with `digits` digits, in at most `digits` + 4 characters; "-" if it is None or not finite."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 10.0 ** (1 - digits) or size >= 10.0**digits:
        mantissa, _, exponent = f"{value:.{max(0, digits - 3)}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    before = max(1, math.floor(math.log10(size)) + 1)
    return f"{value:.{max(0, digits - before)}f}"


def duration(seconds: float) -> str:
    """Return a time span in words; longer ones are less precise."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def age(seconds: float) -> str:
    """Return a time span in its largest unit."""
    return " ".join(duration(seconds).split()[:2])


def size(count: int) -> str:
    """Return a number of bytes in MB below a GB, else in GB."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
