"""The curves of a soak as an SVG: a small plot for each thing measured, all from zero, over the same cycles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

WIDTH, HEIGHT = 250, 90  #: of one plot
LEFT, TOP, GAP_X, GAP_Y, BOTTOM = 70, 60, 90, 60, 40
COLUMNS = 3
BLUE, GREY, INK = "#0969da", "#d0d7de", "#24292f"


def picture(titles: Sequence[str], cycles: Sequence[int], curves: Sequence[Sequence[float]]) -> str:
    """Return the SVG; `curves` holds one value for each of `cycles`, in the order of `titles`."""
    rows = -(-len(titles) // COLUMNS)
    width = LEFT + COLUMNS * (WIDTH + GAP_X)
    height = TOP + rows * (HEIGHT + GAP_Y) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f'<g font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        "<title>What a daemon takes up over many cycles</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _text(LEFT, 24, f"One daemon, {cycles[-1]:,} cycles", weight=600),
    ]
    for index, (title, values) in enumerate(zip(titles, curves, strict=True)):
        left = LEFT + (index % COLUMNS) * (WIDTH + GAP_X)
        top = TOP + (index // COLUMNS) * (HEIGHT + GAP_Y)
        parts += _plot(left, top, title, cycles, values)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _plot(left: int, top: int, title: str, cycles: Sequence[int], values: Sequence[float]) -> Iterator[str]:
    highest = max(*values, 1e-9) * 1.1
    yield _text(left, top - 8, title, weight=600)
    for share in (0.0, 0.5, 1.0):
        y = top + HEIGHT * (1 - share)
        yield f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="{GREY}" fill="none"/>'
        yield _text(left - 6, y + 4, _short(highest * share), anchor="end")
    for at in (0, cycles[-1]):
        yield _text(left + WIDTH * at / cycles[-1], top + HEIGHT + 16, f"{at:,}", anchor="end" if at else "start")
    points = " ".join(
        f"{left + WIDTH * cycle / cycles[-1]:.1f},{top + HEIGHT * (1 - value / highest):.1f}"
        for cycle, value in zip(cycles, values, strict=True)
    )
    yield f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="2" stroke-linejoin="round"/>'


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if value >= 0.01 or value == 0 else f"{value * 1000:.2g}m"


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: int = 400) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
