"""The power is cut during a cycle: whichever part of the unsynced data is lost, no invariant is violated."""

from __future__ import annotations

import pytest

from tests.faults.support.power import explore_a_cycle


@pytest.mark.fault(39)
@pytest.mark.skip(reason="Linux: LazyFS or dm-log-writes with a disk of its own; row 38 models the disk")
def test_a_power_cut_on_a_real_file_system():
    """Run `python -m scripts.faults.powerloss` on LazyFS by hand."""


@pytest.mark.fault(38)
@pytest.mark.slow
def test_a_power_cut_at_any_moment_of_a_cycle(fresh_project):
    found = explore_a_cycle(fresh_project(), restart_every=10)
    assert found.violations == []
    assert found.different > 100
