"""Power cuts: checks the invariants in every state that a power cut during a cycle can leave on the disk.

python -m scripts.faults.powerloss            check all states and print the counts
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.storage.files import sha256_of
from scripts.faults.lib.disk_recorder import DiskRecorder
from scripts.faults.lib.power_cuts import cuts
from scripts.faults.lib.progress import NoProgress, Progress

LEDGER = "Saved/Training/State/ledger.sqlite3"
Check = Callable[[Path, int, bool], list[str]]
"""Returns the violations in (a project folder, after so many operations, whether to start a daemon on it)."""


def write_state(folder: Path, tree: dict[str, bytes | None]) -> None:
    """Write a state of the disk to a folder; the old content is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path, data in tree.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)


@dataclass
class Exploration:
    """The counts and violations of an exploration."""

    operations: int = 0
    states: int = 0  #: power cuts
    different: int = 0  #: of them, different states of the disk
    restarts: int = 0  #: of them, states with a start of the daemon
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the counts in words."""
        return (
            f"{self.operations} operations, {self.states} power cuts, {self.different} different states, "
            f"{self.restarts} of them with a start of the daemon, {len(self.violations)} violations"
        )


def explore(
    recorder: DiskRecorder,
    folder: Path,
    ledgers: Sequence[bytes],
    check: Check,
    *,
    restart_every: int = 1,
    progress: Progress | None = None,
) -> Exploration:
    """Write every state with its ledger to `folder`, and collect the violations that `check` returns.

    Every `restart_every`-th different state is also checked after the next start of the daemon.
    """
    found = Exploration(operations=recorder.count)
    checked: set[str] = set()
    progress = progress or NoProgress()
    progress.summary = found.line
    all_cuts = list(cuts(recorder))
    progress.begin("power loss", len(all_cuts), unit="power cuts")
    for cut in all_cuts:
        found.states += 1
        progress.advance()
        tree = cut.tree(recorder)
        tree[LEDGER] = ledgers[cut.at]
        fingerprint = sha256_of(repr(sorted((path, data and sha256_of(data)) for path, data in tree.items())).encode())
        if fingerprint in checked:
            continue
        checked.add(fingerprint)
        found.different += 1
        write_state(folder, tree)
        restarts = found.different % restart_every == 0
        found.restarts += restarts
        when = f"after {cut.at} operations ({recorder.labels[cut.at - 1] if cut.at else 'none'})"
        forgotten = [recorder.labels[recorder.name_changes[position].at] for position in sorted(cut.forgotten)]
        wrong = check(folder, cut.at, restarts)
        found.violations += [f"{when}, lost {forgotten}, torn {dict(cut.contents)}: {text}" for text in wrong]
        progress.advance(0, wrong)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the states of one cycle and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.powerloss", description=__doc__)
    parser.add_argument("--restart-every", type=int, default=1, metavar="N", help="start a daemon on each N-th state")
    options = parser.parse_args(arguments)
    from tests.faults.support.harness import InstantHarness
    from tests.faults.support.power import explore_a_cycle

    started = time.monotonic()
    with Progress("power loss", unit="power cuts") as progress, tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve() / "project"
        with InstantHarness(project) as harness:
            harness.until_version(0)
        found = explore_a_cycle(project, restart_every=options.restart_every, progress=progress)
    sys.stdout.write(f"power loss: {found.line()}, {time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"  {violation}\n" for violation in found.violations))
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
