"""`python -m benchmarks.online.plot RUN_FOLDER PICTURE.svg`: touches and goals a minute over a run, from its log."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

_LINE = re.compile(
    r"([\d,]+) of [\d,]+ steps.* selfplay/touches_per_min ([\d.e+-]+), selfplay/goals_per_min ([\d.e+-]+)"
)
BINS, WIDTH, HEIGHT, LEFT, TOP, GAP = 16, 380, 240, 60, 50, 70
COLOUR = "#0969da"

Point = tuple[float, float, float]
"""Agent steps, touches a minute of game, goals a minute of game."""


def points_of(log: str) -> list[Point]:
    """Read every line of progress."""
    found = (_LINE.search(line) for line in log.splitlines())
    return [(float(m[1].replace(",", "")), float(m[2]), float(m[3])) for m in found if m]


def binned(points: Sequence[Point], bins: int = BINS) -> list[Point]:
    """Return the means of as many equal stretches of the run."""
    width = points[-1][0] / bins
    parts = [[p for p in points if i * width < p[0] <= (i + 1) * width] for i in range(bins)]
    return [tuple(sum(column) / len(part) for column in zip(*part, strict=True)) for part in parts if part]  # type: ignore[misc]


def picture(points: Sequence[Point]) -> str:
    """Return the SVG: two panels, dots for log lines, a line for the means of stretches."""
    means = binned(points)
    panels = (("touches a minute of game", 1), ("goals a minute of game", 2))
    width, height = LEFT + len(panels) * (WIDTH + GAP), TOP + HEIGHT + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        '<g font-family="system-ui, sans-serif" font-size="12" fill="#24292f">',
        "<title>1v1 Rocket League, from a random start</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, (title, column) in enumerate(panels):
        parts += _panel(
            LEFT + i * (WIDTH + GAP), title, [(p[0], p[column]) for p in points], [(p[0], p[column]) for p in means]
        )
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(
    left: float, title: str, dots: Sequence[tuple[float, float]], line: Sequence[tuple[float, float]]
) -> list[str]:
    last, high = dots[-1][0], 1.1 * max(value for _, value in dots) or 1.0

    def at(steps: float, value: float) -> tuple[float, float]:
        return left + WIDTH * steps / last, TOP + HEIGHT * (1 - value / high)

    parts = [f'<text x="{left + WIDTH / 2:.0f}" y="{TOP - 14}" text-anchor="middle" font-weight="600">{title}</text>']
    for fifth in range(6):
        x, y = at(last * fifth / 5, high * fifth / 5)
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{high * fifth / 5:.3g}</text>')
        steps = f"{last * fifth / 5e6:.1f}M"
        parts.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{steps}</text>')
    parts.append(f'<text x="{left + WIDTH / 2:.0f}" y="{TOP + HEIGHT + 38}" text-anchor="middle">agent steps</text>')
    for steps, value in dots:
        x, y = at(steps, value)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5" fill="{COLOUR}" opacity="0.3"/>')
    path = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in line)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOUR}" stroke-width="2.5"/>')
    return parts


def main() -> int:
    """Draw the picture and say what it shows."""
    run, target = Path(sys.argv[1]), Path(sys.argv[2])
    points = points_of((run / "train.log").read_text(encoding="utf-8"))
    target.write_text(picture(points), encoding="utf-8")
    for steps, touches, goals in binned(points):
        print(f"{steps:>12,.0f} steps: {touches:6.2f} touches, {goals:5.2f} goals a minute of game")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
