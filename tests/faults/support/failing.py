"""Runs a cycle on a disk on which an operation fails; finds violations at the failure and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from daemon.diagnostics.invariants import Invariant
from scripts.faults.kill_sweep import SweepResult
from scripts.faults.lib.progress import NoProgress, Progress
from tests.faults.support.disk import FAULTS, Op, TestDisk, failing
from tests.faults.support.harness import InstantHarness, violations

AT_ANY_TIME = {Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST}


def run_a_cycle(folder: Path, disk: TestDisk) -> list[str]:
    """Run one cycle with this disk; return the violations at each failure and after the next start."""
    broken: list[str] = []
    with InstantHarness(folder, disk=disk) as harness:
        harness.write_rollouts(1, 2)
        fault = disk.before

        def before(number: int, op: Op) -> None:
            try:
                fault(number, op)
            except OSError:
                found = [v for v in violations(folder) if v.invariant in AT_ANY_TIME]
                broken.extend(f"at operation {number} ({op}): {violation}" for violation in found)
                raise

        disk.before = before
        harness.until_version(1)
        harness.until(lambda: harness.warnings() <= {"W_COPIES"})  # it stays until the next publish
        published = [p.policy_version for p in harness.ledger.publications()]
        if published != [0, 1]:
            broken.append(f"published {published}")
    with InstantHarness(folder) as harness:  # removes what could not be removed before
        harness.tick()
    return broken + [f"at the end: {violation}" for violation in violations(folder)]


def count_operations(folder: Path) -> int:
    """Return the number of operations in a cycle without failures. Raises AssertionError if it has violations."""
    disk = TestDisk()
    broken = run_a_cycle(folder, disk)
    assert broken == [], broken
    return len(disk.ops)


def sweep_faults(
    make_project: Callable[[], Path],
    faults_at: Callable[[int], Iterable[str]],
    *,
    times: int = 1,
    every: int = 1,
    progress: Progress | None = None,
) -> SweepResult:
    """Run a cycle for each operation: it and the next `times` - 1 fail with the faults that `faults_at` names."""
    result, progress = SweepResult(), progress or NoProgress()
    points = [
        (number, name) for number in range(1, count_operations(make_project()) + 1, every) for name in faults_at(number)
    ]
    progress.begin(f"operations that fail {times} times", len(points))
    for number, name in points:
        broken = run_a_cycle(make_project(), failing(number, FAULTS[name], times=times))
        result.points[name] += 1
        result.violations += [f"operation {number} failed {times} times with {name}: {wrong}" for wrong in broken]
        progress.advance(violations=broken)
    return result
