"""The curves of a soak as SVG: one small panel for each measured value."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.lib.svg_plot import Panel, Series, svg

COLOUR = "#0969da"


def picture(titles: Sequence[str], cycles: Sequence[int], curves: Sequence[Sequence[float]]) -> str:
    """Return the SVG; `curves` has one value for each of `cycles`, in the order of `titles`."""
    panels = [
        Panel(title, [Series(list(zip(cycles, values, strict=True)), COLOUR, width=2)])
        for title, values in zip(titles, curves, strict=True)
    ]
    return svg(f"One daemon, {cycles[-1]:,} cycles", panels, columns=3, size=(250, 90))
