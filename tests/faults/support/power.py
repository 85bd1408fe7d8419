"""Records the disk's operations of a cycle; checks every state that a power cut can leave, also after a restart."""

from __future__ import annotations

from pathlib import Path

from daemon.diagnostics.invariants import Invariant
from scripts.faults.lib.disk_recorder import DiskRecorder
from scripts.faults.lib.progress import Progress
from scripts.faults.powerloss import Check, Exploration, explore
from tests.faults.support.harness import InstantHarness, train, violations

_AFTER_CUT = {Invariant.ENGINE_VIEW, Invariant.LEDGER, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST}


def record(folder: Path) -> tuple[DiskRecorder, list[bytes], int]:
    """Record a cycle; return the recorder, the ledger after each operation, and the operation that published."""
    ledgers: list[bytes] = []
    ledger = folder / "Saved" / "Training" / "State" / "ledger.sqlite3"
    with InstantHarness(folder, enable_auto_training=False) as harness:
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.ledger.pending_count() == 2)
    recorder = DiskRecorder(folder, lambda count: ledgers.append(ledger.read_bytes()))
    ledgers.append(ledger.read_bytes())
    with InstantHarness(folder, disk=recorder) as harness:
        harness.launcher.answer = lambda job: train(job, disk=recorder)
        harness.until_version(1)
        published = recorder.count
        ledgers[published] = ledger.read_bytes()  # the commit follows the pointer file
        harness.tick()
    return recorder, ledgers, published


def make_check(published: int) -> Check:
    """Return a function that returns the violations right after a power cut and after the next start."""

    def find_violations(folder: Path, at: int, restarts: bool) -> list[str]:
        found = [f"after the power cut: {v}" for v in violations(folder) if v.invariant in _AFTER_CUT]
        pointer = (folder / "Saved" / "Training" / "Models" / "best_model_path.txt").read_text(encoding="utf-8")
        if at >= published and "cycle_000001/" not in pointer:
            found.append("the ledger has a publication, but the pointer file does not name its model")
        if not restarts:
            return found
        try:
            with InstantHarness(folder) as harness:
                harness.until_version(1)
        except AssertionError as error:
            found.append(f"the next start: {error}")
        return found + [f"after the next start: {v}" for v in violations(folder)]

    return find_violations


def explore_a_cycle(folder: Path, *, restart_every: int = 1, progress: Progress | None = None) -> Exploration:
    """Check the states after a power cut at every operation of one cycle of the project in `folder`."""
    recorder, ledgers, published = record(folder)
    check = make_check(published)
    return explore(recorder, folder, ledgers, check, restart_every=restart_every, progress=progress)
