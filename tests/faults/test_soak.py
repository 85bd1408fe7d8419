"""What a daemon takes up stays bounded over many cycles; `python -m scripts.faults.soak` makes ten thousand of them."""

from __future__ import annotations

import dataclasses

import pytest

from scripts.faults.lib.soak_plot import picture
from scripts.faults.soak import LIMITS, Sample, excesses, slope, soak

CYCLES = 200


@pytest.mark.fault(50)
@pytest.mark.slow
def test_two_hundred_cycles_take_up_no_more_than_the_first_few(tmp_path):
    samples = soak(tmp_path, CYCLES)
    assert samples[-1].cycle == CYCLES
    assert excesses(samples) == []


def steady(cycles: int = 100) -> list[Sample]:
    return [Sample(cycle, (100.0,) * len(LIMITS)) for cycle in range(1, cycles + 1)]


@pytest.mark.parametrize("index", range(len(LIMITS)), ids=[limit.what for limit in LIMITS])
def test_each_thing_that_grows_too_much_is_told(index):
    limit = LIMITS[index]
    assert excesses(steady()) == []
    rise = 2 * (limit.per_cycle + limit.at_all / 70)

    def leaking(sample: Sample) -> Sample:
        values = [value + rise * sample.cycle * (at == index) for at, value in enumerate(sample.values)]
        return dataclasses.replace(sample, values=tuple(values))

    [told] = excesses([leaking(sample) for sample in steady()])
    assert told.startswith(f"{limit.what} grew by ")


def test_what_only_grows_at_first_is_no_leak():
    samples = [dataclasses.replace(sample, values=(1e9 * min(sample.cycle, 15),) * len(LIMITS)) for sample in steady()]
    assert excesses(samples) == []


def test_the_slope_is_that_of_the_line_through_the_points():
    assert slope([(1, 3), (2, 5), (3, 7)]) == pytest.approx(2)
    assert slope([(1, 1), (2, 3), (3, 1), (4, 3)]) == pytest.approx(0.4)
    assert slope([(1, 5)]) == 0


def test_the_picture_has_a_curve_for_each_thing():
    drawn = picture(["a < b", "c"], [1, 2, 3], [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert drawn.count("<polyline") == 2
    assert "a &lt; b" in drawn
    assert "nan" not in drawn
