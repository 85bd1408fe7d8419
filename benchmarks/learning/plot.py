"""The learning curves as an SVG, written by hand: one panel for each scale, seeds thin, their mean thick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.learning.scenarios import Scale, Scenario, ScenarioOutcome, Way

COLOURS = {Way.SB3: "#6e7781", Way.OURS: "#0969da", Way.OWN: "#bc4c00"}
PANEL, HEIGHT = 400, 300  #: of one plot
LEFT, TOP, GAP, BOTTOM = 60, 60, 50, 50
TITLES = {Scale.WELL: "Observations well scaled", Scale.BADLY: "Observations times 30 plus 100"}


def picture(outcomes: Sequence[ScenarioOutcome], plan: Scenario) -> str:
    """Return the SVG of all curves."""
    rewards = [reward for outcome in outcomes for reward in outcome.curve]
    low, high = min(0.0, *rewards), max(1.0, *rewards)
    scales = [scale for scale in Scale if any(o.run.scale is scale for o in outcomes)]
    width = LEFT + len(scales) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + BOTTOM}" width="{width}">',
        '<g font-family="system-ui, sans-serif" font-size="12" fill="#24292f">',
        "<title>Reward per step over cycles</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend({o.run.way for o in outcomes}),
    ]
    for i, scale in enumerate(scales):
        panel = _Panel(LEFT + i * (PANEL + GAP), plan.cycles, low, high)
        parts += [*panel.frame(TITLES[scale]), *_lines(panel, [o for o in outcomes if o.run.scale is scale])]
    return "\n".join([*parts, "</g>", "</svg>", ""])


class _Panel:
    """One plot: where a cycle and a reward lie, and the lines behind the curves."""

    def __init__(self, left: float, cycles: int, low: float, high: float) -> None:
        self._left, self._cycles, self._low, self._high = left, max(1, cycles), low, high

    def x(self, cycle: float) -> float:
        return self._left + PANEL * cycle / self._cycles

    def y(self, reward: float) -> float:
        return TOP + HEIGHT * (self._high - reward) / (self._high - self._low)

    def frame(self, title: str) -> Iterable[str]:
        """Title, axes, grid."""
        yield _text(self._left + PANEL / 2, TOP - 12, title, anchor="middle", more=' font-weight="600"')
        for tenth in range(round(self._low * 5), round(self._high * 5) + 1):
            y = self.y(tenth / 5)
            yield f'<path d="M{self._left} {y:.1f}h{PANEL}" stroke="#d0d7de" fill="none"/>'
            yield _text(self._left - 8, y + 4, f"{tenth / 5:.1f}", anchor="end")
        for cycle in range(0, self._cycles + 1, max(1, self._cycles // 8)):
            yield _text(self.x(cycle), TOP + HEIGHT + 18, str(cycle), anchor="middle")
        yield _text(self._left + PANEL / 2, TOP + HEIGHT + 38, "cycles trained (reward per step)", anchor="middle")

    def curve(self, rewards: Sequence[float], style: str) -> str:
        points = " ".join(f"{self.x(k):.1f},{self.y(reward):.1f}" for k, reward in enumerate(rewards))
        return f'<polyline points="{points}" fill="none" stroke-linejoin="round" {style}/>'


def _lines(panel: _Panel, outcomes: Sequence[ScenarioOutcome]) -> Iterable[str]:
    """Thin curves of the seeds first, so that the means lie over them."""
    for outcome in outcomes:
        yield panel.curve(outcome.curve, f'stroke="{COLOURS[outcome.run.way]}" stroke-width="1" opacity="0.35"')
    for way, colour in COLOURS.items():
        curves = [outcome.curve for outcome in outcomes if outcome.run.way is way]
        if curves:
            mean = [sum(rewards) / len(rewards) for rewards in zip(*curves, strict=True)]
            yield panel.curve(mean, f'stroke="{colour}" stroke-width="2.5"')


def _legend(ways: set[Way]) -> Iterable[str]:
    x = float(LEFT)
    for way in (way for way in Way if way in ways):
        yield f'<path d="M{x:.0f} 20h24" stroke="{COLOURS[way]}" stroke-width="2.5"/>'
        yield _text(x + 30, 24, way.label)
        x += 60 + 6.5 * len(way.label)


def _text(x: float, y: float, words: str, *, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
