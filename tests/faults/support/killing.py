"""Project folders for the tests that kill a daemon, and the checks after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

from daemon.diagnostics.invariants import Invariant
from tests.faults.support.disk import os_error, refusing
from tests.faults.support.harness import InstantHarness, violations

AFTER_KILL = {Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST}


class ProjectTemplates:
    """Two projects. One of them is copied to the same folder before each kill."""

    def __init__(self, base: Path) -> None:
        self._folder, self._fresh, self._pending = base / "project", base / "fresh", base / "pending"
        with InstantHarness(self._folder) as harness:
            harness.until_version(0)
        shutil.copytree(self._folder, self._fresh)
        leave_a_publish_pending(self._folder)
        shutil.copytree(self._folder, self._pending)

    def _copy(self, template: Path) -> Path:
        shutil.rmtree(self._folder)
        shutil.copytree(template, self._folder)
        return self._folder

    def fresh(self) -> Path:
        """Return a project with version 0."""
        return self._copy(self._fresh)

    def pending(self) -> Path:
        """Return a project whose version 1 is being published; its files are in staging."""
        return self._copy(self._pending)


def leave_a_publish_pending(folder: Path) -> None:
    """Run a cycle up to its publish."""
    disk = refusing(lambda op: op.kind == "fsync" and op.path.parent.name == "cycle_000001", os_error(5))
    harness = InstantHarness(folder, disk=disk)
    harness.write_rollouts(1, 2)
    harness.until(lambda: "W_PUBLISH" in harness.warnings())
    harness.crash()


def check_after_kill(folder: Path) -> list[str]:
    """Return the violations right after the kill and after the next start has finished its cycle."""
    found = [f"after the kill: {violation}" for violation in violations(folder) if violation.invariant in AFTER_KILL]
    try:
        with InstantHarness(folder) as harness:
            harness.until_version(0)
            harness.run_cycle(11)
            if sum(len(cycle.rollouts) for cycle in harness.ledger.history()) < 2:
                found.append("rollouts were not trained on")
            harness.until(lambda: not harness.warnings())
    except Exception as error:  # noqa: BLE001  a failed start is a violation
        return [*found, f"the next start: {type(error).__name__}: {error}"]
    return found + [f"after the next start: {violation}" for violation in violations(folder)]
