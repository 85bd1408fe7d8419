"""Records the disk's operations of a cycle, and checks each state after a power cut, also with a restart."""

from __future__ import annotations

from pathlib import Path

from daemon.diagnostics.invariants import Invariant
from scripts.faults.lib.disk_recorder import DiskRecorder
from scripts.faults.powerloss import Exploration, Judge, explore
from tests.faults.support.site import Site, train, violations

_AT_ONCE = {Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST}


def record(folder: Path) -> tuple[DiskRecorder, list[bytes], int]:
    """Record a cycle of a project with version 0; return the ledger after each operation, and which published."""
    ledgers: list[bytes] = []
    ledger = folder / "Saved" / "Training" / "State" / "ledger.sqlite3"
    with Site(folder, enable_auto_training=False) as site:
        site.drop(1, 2)
        site.until(lambda: site.ledger.pending_count() == 2)
    recorder = DiskRecorder(folder, lambda count: ledgers.append(ledger.read_bytes()))
    ledgers.append(ledger.read_bytes())
    with Site(folder, disk=recorder) as site:
        site.launcher.answer = lambda job: train(job, disk=recorder)
        site.until_version(1)
        published = recorder.count
        ledgers[published] = ledger.read_bytes()  # it commits after the pointer file was written
        site.tick()
    return recorder, ledgers, published


def judge(published: int) -> Judge:
    """Return a function that finds the violations right after a power cut and after the next start."""

    def find_violations(folder: Path, at: int, restarts: bool) -> list[str]:
        found = [f"at once: {v}" for v in violations(folder) if v.invariant in _AT_ONCE]
        pointer = (folder / "Saved" / "Training" / "Models" / "best_model_path.txt").read_text(encoding="utf-8")
        if at >= published and "cycle_000001/" not in pointer:
            found.append("the ledger has a publish that is lost")
        if not restarts:
            return found
        try:
            with Site(folder) as site:
                site.until_version(1)
        except AssertionError as error:
            found.append(f"the next start: {error}")
        return found + [f"after the next start: {v}" for v in violations(folder)]

    return find_violations


def explore_a_cycle(folder: Path, *, restart_every: int = 1) -> Exploration:
    """Cut the power at every operation of one cycle of the project in `folder`."""
    recorder, ledgers, published = record(folder)
    return explore(recorder, folder, ledgers, judge(published), restart_every=restart_every)
