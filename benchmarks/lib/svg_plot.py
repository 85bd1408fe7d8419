"""Line plots as SVG: panels side by side, each with axes, a grid and series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

INK, GRID = "#24292f", "#d0d7de"
LEFT, TOP, GAP_X, GAP_Y = 66, 62, 70, 66  #: of the first panel; between panels

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """Points that are drawn as a line or as dots."""

    points: Sequence[Point]
    colour: str
    width: float = 2.5
    opacity: float = 1.0
    has_line: bool = True
    has_dots: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. The y axis contains 0; the x axis begins at 0."""

    title: str
    series: Sequence[Series]
    x_label: str = ""


def svg(
    title: str,
    panels: Sequence[Panel],
    *,
    legend: Sequence[tuple[str, str]] = (),
    columns: int = 2,
    size: tuple[int, int] = (400, 280),
    y_range: Point | None = None,
) -> str:
    """Return the SVG. `legend` has (label, colour); `size` is that of a panel; `y_range` is shared by all panels."""
    (width, height), columns = size, min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    whole = LEFT + columns * (width + GAP_X), TOP + rows * (height + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}">',
        f'<g font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(legend),
    ]
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = LEFT + column * (width + GAP_X), TOP + row * (height + GAP_Y)
        parts.append(f'<g transform="translate({left} {top})">')
        parts += [*_panel(panel, width, height, y_range), "</g>"]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(panel: Panel, width: int, height: int, y_range: Point | None) -> Iterator[str]:
    points = [point for series in panel.series for point in series.points]
    x_high = max((x for x, _ in points), default=0.0) or 1.0
    low, high = y_range or (min(0.0, *(y for _, y in points)), max(0.0, *(y for _, y in points)) * 1.1 or 1.0)

    def at(x: float, y: float) -> tuple[str, str]:
        return f"{width * x / x_high:.1f}", f"{height * (high - y) / (high - low):.1f}"

    yield _text(width / 2, -12, panel.title, anchor="middle", weight=600)
    yield _text(width / 2, height + 38, panel.x_label, anchor="middle")
    for tick in _ticks(low, high):
        y = at(0, tick)[1]
        yield f'<path d="M0 {y}h{width}" stroke="{GRID}" fill="none"/>'
        yield _text(-8, float(y) + 4, _short(tick), anchor="end")
    for tick in _ticks(0.0, x_high):
        yield _text(width * tick / x_high, height + 18, _short(tick), anchor="middle")
    for series in panel.series:
        style = f'stroke="{series.colour}" stroke-width="{series.width}" opacity="{series.opacity}"'
        if series.has_line:
            line = " ".join(",".join(at(*point)) for point in series.points)
            yield f'<polyline points="{line}" fill="none" stroke-linejoin="round" {style}/>'
        for x, y in (at(*point) for point in series.points) if series.has_dots else ():
            yield f'<circle cx="{x}" cy="{y}" r="{series.width}" fill="{series.colour}" opacity="{series.opacity}"/>'


def _legend(entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    x = float(LEFT)
    for label, colour in entries:
        yield f'<path d="M{x:.0f} 20h24" stroke="{colour}" stroke-width="2.5"/>'
        yield _text(x + 30, 24, label)
        x += 60 + 6.5 * len(label)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between the two, about five."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: int = 400) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
