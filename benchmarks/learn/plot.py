"""The learning curves as SVG: one panel over all environments, and one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.learn.environments.catalogue import ENVIRONMENTS
from benchmarks.learn.runs import FLOOR
from benchmarks.learn.scores import filled, floors, scales
from benchmarks.learn.statistics import iqm
from benchmarks.learn.store import Record
from benchmarks.lib.svg_plot import Panel, Series, svg

COLOURS = ("#6e7781", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#0550ae", "#cf222e")
_PLACES = 20  #: points of a curve over all environments, which have different numbers of cycles


def curves_picture(records: Sequence[Record]) -> str:
    """Return the SVG. Environments without both scales are missing in the first panel."""
    learners = [record for record in records if record.run.contender != FLOOR]
    names = sorted({record.run.name for record in learners})
    colour_of = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    floor_of, panels = floors(records), []
    if overall := overall_curves(records):
        series = [Series(points, colour_of[name]) for name, points in overall.items()]
        panels.append(Panel("All, 1 = PPO's final", series, "% of the steps"))
    for environment in ENVIRONMENTS:
        own = [record for record in learners if record.run.environment == environment]
        if own:
            series = [s for name in names for s in _series(own, name, colour_of[name], floor_of.get(environment, 0.0))]
            panels.append(Panel(environment, series, "steps"))
    return svg("Score over steps", panels, legend=list(colour_of.items()), columns=3, size=(300, 200))


def overall_curves(records: Sequence[Record]) -> Mapping[str, list[tuple[float, float]]]:
    """Return each contender's interquartile mean of the normalised scores, over the part of the steps in percent."""
    scale_of = scales(records)
    places = np.linspace(100.0 / _PLACES, 100.0, _PLACES)
    curves: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {}
    for record in records:
        scale = scale_of.get(record.run.environment)
        if scale is None or record.run.contender == FLOOR:
            continue
        curve = [scale(score) for score in filled(record.curve, scale.floor)]
        steps = 100.0 * np.arange(1, len(curve) + 1) / len(curve)
        curves.setdefault(record.run.name, []).append(np.interp(places, steps, curve))
    means = {name: iqm(np.stack(found, axis=1)) for name, found in curves.items()}
    return {name: list(zip(places.tolist(), mean.tolist(), strict=True)) for name, mean in means.items()}


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
