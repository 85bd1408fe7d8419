"""kill -9 anywhere in a publish or a cycle: what the engine sees is whole at once, the next start finishes the rest."""

from __future__ import annotations

import contextlib

import pytest

from scripts.faults.kill_sweep import CHANGING, Victims, strace_works, sweep_steps, sweep_syscalls
from tests.faults.support.killing import Grounds, judge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def grounds(tmp_path_factory) -> Grounds:
    return Grounds(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def victims():
    with contextlib.closing(Victims()) as found:
        yield found


@pytest.mark.fault(36)
@pytest.mark.skipif(not strace_works(), reason="strace is not there or may not trace: the next test does without")
def test_a_publish_that_is_killed_at_a_syscall(grounds, victims):
    """Those that change something; `python -m scripts.faults.kill_sweep` takes every one."""
    swept = sweep_syscalls(victims, grounds.pending, judge, only=CHANGING - {"openat"}, every=2)
    assert swept.violations == []
    assert {"rename", "fsync", "pwrite64"} <= set(swept.points)


@pytest.mark.fault(37)
@pytest.mark.parametrize("what", ["disk", "ledger"])
def test_a_daemon_that_is_killed_before_a_step_of_a_cycle(grounds, victims, what):
    swept = sweep_steps(victims, grounds.fresh, judge, what, every=2)
    assert swept.violations == []
    assert swept.points.total() > 10
