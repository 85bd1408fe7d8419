"""The linear schedule: at its ends, in its middle, and outside."""

import pytest

from trainer.common.schedule import linear_schedule


@pytest.mark.parametrize(
    ("progress", "value"), [(-1.0, 3.0), (0.0, 3.0), (0.25, 2.5), (0.5, 2.0), (1.0, 1.0), (7.0, 1.0)]
)
def test_it_is_the_line_between_its_ends_and_constant_outside(progress, value):
    assert linear_schedule(3.0, 1.0, progress) == pytest.approx(value)


def test_a_schedule_between_equal_values_is_constant_to_the_bit():
    assert linear_schedule(0.1, 0.1, 0.3) == 0.1
