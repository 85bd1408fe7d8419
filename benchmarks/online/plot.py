"""`python -m benchmarks.online.plot RUN_FOLDER PLOT.svg`: touches and goals per minute over a run, from its log."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.lib.svg_plot import Panel, Series, svg

_LINE = re.compile(
    r"([\d,]+) of [\d,]+ steps.* selfplay/touches_per_min ([\d.e+-]+), selfplay/goals_per_min ([\d.e+-]+)"
)
BINS = 16
COLOUR = "#0969da"
DOTS = Series((), COLOUR, width=1.5, opacity=0.3, has_line=False, has_dots=True)

Progress = tuple[float, float, float]
"""Agent steps, touches per minute of game, goals per minute of game."""


def points_of(log: str) -> list[Progress]:
    """Return the values of all progress lines."""
    found = (_LINE.search(line) for line in log.splitlines())
    return [(float(m[1].replace(",", "")), float(m[2]), float(m[3])) for m in found if m]


def binned(points: Sequence[Progress], bins: int = BINS) -> list[Progress]:
    """Return the means of equal parts of the run."""
    width = points[-1][0] / bins
    parts = [[p for p in points if i * width < p[0] <= (i + 1) * width] for i in range(bins)]
    return [tuple(sum(column) / len(part) for column in zip(*part, strict=True)) for part in parts if part]


def picture(points: Sequence[Progress]) -> str:
    """Return the SVG: a dot for each log line, and a line through the means of parts of the run."""
    means = binned(points)
    panels = [
        Panel(
            title,
            [
                replace(DOTS, points=[(p[0], p[column]) for p in points]),
                Series([(p[0], p[column]) for p in means], COLOUR),
            ],
            "agent steps",
        )
        for column, title in ((1, "touches per minute of game"), (2, "goals per minute of game"))
    ]
    return svg("1v1 Rocket League, from a random start", panels, size=(380, 240))


def main() -> int:
    """Write the SVG and print its values."""
    run, target = Path(sys.argv[1]), Path(sys.argv[2])
    points = points_of((run / "train.log").read_text(encoding="utf-8"))
    target.write_text(picture(points), encoding="utf-8")
    for steps, touches, goals in binned(points):
        print(f"{steps:>12,.0f} steps: {touches:6.2f} touches, {goals:5.2f} goals per minute of game")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
