"""Memory, handles and files stay bounded over many cycles; `python -m scripts.faults.soak` runs ten thousand."""

from __future__ import annotations

import dataclasses

import pytest

from scripts.faults.lib.soak_plot import picture
from scripts.faults.soak import LIMITS, Sample, excesses, slope, soak

CYCLES = 200


@pytest.mark.fault(50)
@pytest.mark.slow
def test_nothing_grows_over_two_hundred_cycles(tmp_path):
    samples = soak(tmp_path, CYCLES)
    assert samples[-1].cycle == CYCLES
    assert excesses(samples) == []


def steady(cycles: int = 100) -> list[Sample]:
    return [Sample(cycle, (100.0,) * len(LIMITS)) for cycle in range(1, cycles + 1)]


@pytest.mark.parametrize("index", range(len(LIMITS)), ids=[limit.what for limit in LIMITS])
def test_everything_that_grows_too_much_is_reported(index):
    limit = LIMITS[index]
    assert excesses(steady()) == []
    rise = 2 * (limit.per_cycle + limit.constant / 70)

    def leaking(sample: Sample) -> Sample:
        values = [value + rise * sample.cycle * (at == index) for at, value in enumerate(sample.values)]
        return dataclasses.replace(sample, values=tuple(values))

    [text] = excesses([leaking(sample) for sample in steady()])
    assert text.startswith(f"{limit.what} grew by ")


def test_growth_during_the_warm_up_is_not_a_leak():
    samples = [dataclasses.replace(sample, values=(1e9 * min(sample.cycle, 15),) * len(LIMITS)) for sample in steady()]
    assert excesses(samples) == []


def test_the_slope_is_that_of_the_regression_line():
    assert slope([(1, 3), (2, 5), (3, 7)]) == pytest.approx(2)
    assert slope([(1, 1), (2, 3), (3, 1), (4, 3)]) == pytest.approx(0.4)
    assert slope([(1, 5)]) == 0


def test_the_plot_has_a_curve_for_each_limit():
    drawn = picture(["a < b", "c"], [1, 2, 3], [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert drawn.count("<polyline") == 2
    assert "a &lt; b" in drawn
    assert "nan" not in drawn
