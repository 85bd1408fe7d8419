"""The picture of the comparison: success over labels, means over milestones and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.dagger.compare import MilestoneOutcome

COLOURS = {"DAgger": "#2a62b8", "cloning": "#c0562b"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _BASE = 520, 300, 56, 34, 252


def picture(outcomes: Sequence[MilestoneOutcome]) -> str:
    """Return an SVG of every way that has a curve."""
    ways = [way for way in COLOURS if any(o.way == way and o.curve for o in outcomes)]
    means = {way: _mean_curve([o.curve for o in outcomes if o.way == way]) for way in ways}
    most = max((labels for curve in means.values() for labels, _ in curve), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20">success rate over expert labels a milestone, mean of five milestones</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{_WIDTH - 20}" y="{_BASE + 18}" text-anchor="end">{most:.0f} labels</text>')
    for row, (way, curve) in enumerate(means.items()):
        points = [(_LEFT + labels / most * (_WIDTH - 20 - _LEFT), _y(rate)) for labels, rate in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[way]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[way]}"/>' for x, y in points]
        x = _LEFT + 110 * row
        parts.append(f'<rect x="{x}" y="{_BASE + 28}" width="14" height="4" fill="{COLOURS[way]}"/>')
        parts.append(f'<text x="{x + 20}" y="{_BASE + 34}">{way}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _y(rate: float) -> float:
    return _BASE - rate * (_BASE - _TOP)


def _mean_curve(curves: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[float, float]]:
    """Mean labels and success of each round."""
    rounds = list(zip(*curves, strict=True))
    return [(sum(n for n, _ in r) / len(r), sum(s for _, s in r) / len(r)) for r in rounds]
