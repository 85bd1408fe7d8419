"""The power is cut during a cycle: whatever part of what was not synced is gone, the promises hold."""

from __future__ import annotations

import pytest

from tests.faults.support.power import explore_a_cycle


@pytest.mark.fault(39)
@pytest.mark.skip(reason="needs LazyFS or dm-log-writes, a kernel module and a disk of its own: row 38 models the disk")
def test_a_power_cut_on_a_real_file_system():
    """Run by hand where such a machine is at hand: `python -m scripts.faults.powerloss` on LazyFS."""


@pytest.mark.fault(38)
@pytest.mark.slow
def test_a_power_cut_at_any_moment_of_a_cycle(fresh_project):
    found = explore_a_cycle(fresh_project(), restart_every=10)
    assert found.violations == []
    assert found.different > 100
