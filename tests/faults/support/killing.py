"""Where daemons are killed: project folders laid out anew for each kill, and what must hold after it."""

from __future__ import annotations

import shutil
from pathlib import Path

from daemon.diagnostics.invariants import Invariant
from tests.faults.support.disk import os_error, refusing
from tests.faults.support.site import Site, violations

AT_ONCE = {Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST}


class Grounds:
    """Two projects, each laid out in the same folder again and again."""

    def __init__(self, base: Path) -> None:
        self._folder, self._fresh, self._pending = base / "project", base / "fresh", base / "pending"
        with Site(self._folder) as site:
            site.until_version(0)
        shutil.copytree(self._folder, self._fresh)
        leave_a_publish_pending(self._folder)
        shutil.copytree(self._folder, self._pending)

    def _lay_out(self, template: Path) -> Path:
        shutil.rmtree(self._folder)
        shutil.copytree(template, self._folder)
        return self._folder

    def fresh(self) -> Path:
        """Version 0 is published."""
        return self._lay_out(self._fresh)

    def pending(self) -> Path:
        """The ledger says that version 1 is being published; its files lie in staging."""
        return self._lay_out(self._pending)


def leave_a_publish_pending(folder: Path) -> None:
    """Bring a project to where its cycle is about to be published."""
    disk = refusing(lambda op: op.kind == "fsync" and op.path.parent.name == "cycle_000001", os_error(5))
    site = Site(folder, disk=disk)
    site.drop(1, 2)
    site.until(lambda: "W_PUBLISH" in site.warnings())
    site.crash()


def judge(folder: Path) -> list[str]:
    """What is broken right after the kill, and after the next start has finished its cycle."""
    found = [f"at once: {violation}" for violation in violations(folder) if violation.invariant in AT_ONCE]
    try:
        with Site(folder) as site:
            site.until_version(0)
            site.cycle(11)
            if sum(len(cycle.rollouts) for cycle in site.ledger.history()) < 2:
                found.append("rollouts were not trained on")
            site.until(lambda: not site.warnings())
    except Exception as error:  # noqa: BLE001  a start that fails is a finding
        return [*found, f"the next start: {type(error).__name__}: {error}"]
    return found + [f"after the next start: {violation}" for violation in violations(folder)]
