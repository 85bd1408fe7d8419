"""The comparison as SVG: success rate over expert labels, means over milestones and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.lib.svg_plot import Panel, Point, Series, svg

COLOURS = {"DAgger": "#2a62b8", "cloning": "#c0562b"}

Curve = Sequence[tuple[int, float]]
"""Labels and success rate of each round."""


def picture(curves: Mapping[str, Sequence[Curve]]) -> str:
    """Return the SVG; `curves` maps a method to the curves of its runs."""
    means = {method: _mean_curve(curves[method]) for method in COLOURS if curves.get(method)}
    series = [Series(points, COLOURS[way], has_dots=True) for way, points in means.items()]
    legend = [(way, COLOURS[way]) for way in means]
    panel = Panel("success rate, mean over milestones", series, "expert labels per milestone")
    return svg("Success rate over expert labels", [panel], legend=legend, size=(460, 240), y_range=(0.0, 1.0))


def _mean_curve(curves: Sequence[Curve]) -> list[Point]:
    """Return the mean labels and success rate of each round."""
    rounds = list(zip(*curves, strict=True))
    return [(sum(n for n, _ in r) / len(r), sum(s for _, s in r) / len(r)) for r in rounds]
