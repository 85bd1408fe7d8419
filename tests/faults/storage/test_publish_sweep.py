"""Any operation of the disk may fail in any way: the engine keeps its model, nothing is lost, and the cycle ends."""

from __future__ import annotations

import pytest

from tests.faults.support.disk import FAULTS
from tests.faults.support.failing import sweep_faults

NAMES = list(FAULTS)
pytestmark = [pytest.mark.fault(40), pytest.mark.fault(42), pytest.mark.fault(43)]


@pytest.mark.parametrize(("times", "every"), [(1, 1), (12, 3)], ids=["once", "for a while"])
def test_any_operation_may_fail(fresh_project, times, every):
    """Check one of the seven faults at each operation; `python -m scripts.faults.kill_sweep` tries all of them."""
    result = sweep_faults(fresh_project, lambda number: [NAMES[number % 7]], times=times, every=every)
    assert result.violations == []
    assert result.points.total() >= 10
    assert set(result.points) == set(NAMES)
