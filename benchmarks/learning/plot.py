"""The learning curves as SVG: one panel per scale; a thin line per seed, a thick one for their mean."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.learning.scenarios import Method, Scale, ScenarioOutcome
from benchmarks.lib.svg_plot import Panel, Series, svg

COLOURS = {Method.SB3: "#6e7781", Method.OURS: "#0969da", Method.OWN: "#bc4c00"}
TITLES = {Scale.WELL: "Observations well scaled", Scale.BADLY: "Observations times 30 plus 100"}


def picture(outcomes: Sequence[ScenarioOutcome]) -> str:
    """Return the SVG of all curves."""
    rewards = [reward for outcome in outcomes for reward in outcome.curve]
    panels = []
    for scale in Scale:
        selected = [outcome for outcome in outcomes if outcome.run.scale is scale]
        if selected:
            panels.append(Panel(TITLES[scale], _series(selected), "cycles trained (reward per step)"))
    methods = [way for way in Method if any(outcome.run.method is way for outcome in outcomes)]
    legend = [(way.label, COLOURS[way]) for way in methods]
    return svg("Reward per step over cycles", panels, legend=legend, y_range=(min(0.0, *rewards), max(1.0, *rewards)))


def _series(outcomes: Sequence[ScenarioOutcome]) -> list[Series]:
    """Return the seeds first, so that the means are drawn over them."""
    series = [
        Series(list(enumerate(outcome.curve)), COLOURS[outcome.run.method], width=1, opacity=0.35)
        for outcome in outcomes
    ]
    for way, colour in COLOURS.items():
        curves = [outcome.curve for outcome in outcomes if outcome.run.method is way]
        if curves:
            means = [sum(rewards) / len(rewards) for rewards in zip(*curves, strict=True)]
            series.append(Series(list(enumerate(means)), colour))
    return series
