"""The learning curves as SVG: one panel for each environment, the mean of each contender's runs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.learn.environments.catalogue import ENVIRONMENTS
from benchmarks.learn.scores import filled
from benchmarks.learn.store import Record
from benchmarks.lib.svg_plot import Panel, Series, svg

COLOURS = ("#6e7781", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#0550ae", "#cf222e")


def curves_picture(records: Sequence[Record], floor_of: dict[str, float]) -> str:
    """Return the SVG. `floor_of` is the score before the first episode has ended."""
    names = list(dict.fromkeys(sorted(record.run.name for record in records)))
    colour_of = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    panels = []
    for environment in ENVIRONMENTS:
        own = [record for record in records if record.run.environment == environment]
        if own:
            series = [s for name in names for s in _series(own, name, colour_of[name], floor_of.get(environment, 0.0))]
            panels.append(Panel(environment, series, "steps"))
    return svg("Score over steps", panels, legend=list(colour_of.items()), columns=3, size=(300, 200))


def _series(records: Sequence[Record], name: str, colour: str, floor: float) -> list[Series]:
    """Return one line for each run, and their mean over them."""
    own = [record for record in records if record.run.name == name]
    curves = [filled(record.curve, floor) for record in own]
    if not curves:
        return []
    batch = own[0].run.sizes.batch
    means = [sum(scores) / len(scores) for scores in zip(*curves, strict=True)]
    lines = [Series(_points(curve, batch), colour, width=1, opacity=0.25) for curve in curves]
    return [*lines, Series(_points(means, batch), colour)]


def _points(curve: Sequence[float], batch: int) -> list[tuple[float, float]]:
    return [((k + 1) * batch, score) for k, score in enumerate(curve)]
