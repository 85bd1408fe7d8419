"""The delay doubles, is capped, and never overflows."""

from __future__ import annotations

import pytest

from schemas.backoff import backoff_s


def test_the_delay_doubles_up_to_its_limit():
    delays = [backoff_s(failures, first_s=0.5, longest_s=3.0) for failures in range(1, 6)]
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("failures", [-1, 0, 1])
def test_the_first_delay_is_the_shortest(failures):
    assert backoff_s(failures, first_s=0.5, longest_s=3.0) == 0.5


@pytest.mark.parametrize("first_s", [1e-300, 1.0, 1e308])
def test_any_number_of_failures_stays_within_the_limit(first_s):
    assert 0 < backoff_s(10**9, first_s=first_s, longest_s=60.0) <= 60.0
