"""A cycle on a disk on which an operation fails, and the violations at that moment and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from daemon.diagnostics.invariants import Invariant
from scripts.faults.kill_sweep import SweepResult
from tests.faults.support.disk import FAULTS, Op, TestDisk, failing
from tests.faults.support.site import Site, violations

AT_ANY_MOMENT = {Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST}


def run_a_cycle(folder: Path, disk: TestDisk) -> list[str]:
    """Run one cycle with this disk; return the violations at each failure and after the next start."""
    broken: list[str] = []
    with Site(folder, disk=disk) as site:
        site.drop(1, 2)
        fault = disk.before

        def before(number: int, op: Op) -> None:
            try:
                fault(number, op)
            except OSError:
                seen = [v for v in violations(folder) if v.invariant in AT_ANY_MOMENT]
                broken.extend(f"at operation {number} ({op}): {violation}" for violation in seen)
                raise

        disk.before = before
        site.until_version(1)
        site.until(lambda: not site.warnings())
        published = [p.policy_version for p in site.ledger.publications()]
        if published != [0, 1]:
            broken.append(f"published {published}")
    with Site(folder) as site:  # removes what could not be removed before
        site.tick()
    return broken + [f"at the end: {violation}" for violation in violations(folder)]


def count_operations(folder: Path) -> int:
    """Return how many operations an undisturbed cycle has. Raises AssertionError if it has violations."""
    disk = TestDisk()
    broken = run_a_cycle(folder, disk)
    assert broken == [], broken
    return len(disk.ops)


def sweep_faults(
    lay_out: Callable[[], Path], choose: Callable[[int], Iterable[str]], *, times: int = 1, every: int = 1
) -> SweepResult:
    """Fail each operation of a cycle in turn, `times` operations long, with the faults that `choose(number)` names."""
    swept = SweepResult()
    for number in range(1, count_operations(lay_out()) + 1, every):
        for name in choose(number):
            broken = run_a_cycle(lay_out(), failing(number, FAULTS[name], times=times))
            swept.points[name] += 1
            swept.violations += [f"operation {number} failed {times} times with {name}: {wrong}" for wrong in broken]
    return swept
