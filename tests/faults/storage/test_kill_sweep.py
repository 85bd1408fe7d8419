"""kill -9 at any point of a publish or a cycle: the engine's model stays valid, the next start finishes the rest."""

from __future__ import annotations

import contextlib

import pytest

from scripts.faults.kill_sweep import CHANGING, ChildForker, strace_works, sweep_steps, sweep_syscalls
from tests.faults.support.killing import ProjectTemplates, check_after_kill
from tests.platforms import needs_posix

pytestmark = [pytest.mark.slow, needs_posix("os.fork and SIGSTOP")]


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> ProjectTemplates:
    return ProjectTemplates(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def forker():
    with contextlib.closing(ChildForker()) as found:
        yield found


@pytest.mark.fault(36)
@pytest.mark.skipif(
    not strace_works(), reason="Linux: strace is missing or not permitted; the next test does not need it"
)
def test_a_publish_that_is_killed_at_a_syscall(projects, forker):
    """Check only calls that change something; `python -m scripts.faults.kill_sweep` includes the others."""
    result = sweep_syscalls(forker, projects.pending, check_after_kill, only=CHANGING - {"openat"}, every=2)
    assert result.violations == []
    assert {"fsync", "pwrite64"} < set(result.points)
    assert {"rename", "renameat", "renameat2"} & set(result.points)


@pytest.mark.fault(37)
@pytest.mark.parametrize("what", ["disk", "ledger"])
def test_a_daemon_that_is_killed_before_a_step_of_a_cycle(projects, forker, what):
    result = sweep_steps(forker, projects.fresh, check_after_kill, what, every=2)
    assert result.violations == []
    assert result.points.total() > 10
