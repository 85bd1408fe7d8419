"""The cost of old rollouts: a cycle's time and the daemon's memory with 10, 100 and 1,000 of them in Exports.

The old rollouts have 2048 experiences each, version 2, and were new in earlier cycles of one epoch each. The daemons
run at the same time and their cycles alternate.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.lib.child_process import RunError
from benchmarks.lib.live_daemon import LiveDaemon
from benchmarks.lib.measurement import Claim, Figure, Section, Sense, ratio_claim
from benchmarks.lib.progress import PrintProgress

NAME = "history"
HELP = "the cycle and the daemon's memory with 10, 100 and 1,000 old rollouts"
ROLLOUTS = 10
SEED_BATCH = 250  #: rollouts that become old in one cycle
MAX_RATIO, MAX_MORE_MB = 2.0, 20.0
_ID = re.compile(rb'"rollout_id": "[^"]*"')

SEEDING = """[daemon]
auto_train_after_n_rollouts = {count}
warm_trainer = false
[trainer]
epochs = 1
batch_size = 4096
history_ratio = 0
"""


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=3, metavar="N", help="warm cycles of each daemon (3)")
    p.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000], metavar="N", help="(10 100 1000)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Create the old rollouts of each daemon, then run cycles of all daemons alternately."""
    sizes = sorted(arguments.sizes)
    if unsuitable := [size for size in sizes if size % min(size, SEED_BATCH)]:
        raise RunError(f"{unsuitable[0]} is not a multiple of {SEED_BATCH}")
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-history-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        for size in sizes:
            print_progress(f"creating {size:,} old rollouts")
            _make_old_rollouts(folder / str(size), size)
        idle = stack.enter_context(LiveDaemon("idle", folder / "idle", ""))
        daemons = {size: stack.enter_context(LiveDaemon(str(size), folder / str(size), _MEASURED)) for size in sizes}
        seconds: dict[int, list[float]] = {size: [] for size in sizes}
        for k in range(arguments.rounds + 1):
            files = {size: live.collect_rollouts(ROLLOUTS) for size, live in daemons.items()}
            for live in daemons.values() if k else ():
                live.wait_for_warm_trainer()
            cycle_s = {size: live.cycle(files[size]).seconds for size, live in daemons.items()}
            if k:  # the first cycle after a start takes longer
                for size, s in cycle_s.items():
                    seconds[size].append(s)
                print_progress(
                    f"round {k} of {arguments.rounds}: " + ", ".join(f"{n:,} old {s:.2f} s" for n, s in cycle_s.items())
                )
        for live in (idle, *daemons.values()):
            live.wait_for_warm_trainer()
        idle_mb, memory_mb = idle.memory_mb(), {size: live.memory_mb() for size, live in daemons.items()}
    return _section(seconds, memory_mb, idle_mb)


_MEASURED = f"[daemon]\nauto_train_after_n_rollouts = {ROLLOUTS}\n"


def _make_old_rollouts(folder: Path, size: int) -> None:
    """Create a project whose Exports contains `size` rollouts that earlier cycles used."""
    count = min(size, SEED_BATCH)
    with LiveDaemon(f"making {size}", folder, SEEDING.format(count=count)) as live:
        rollouts = [file.read_bytes() for file in live.collect_rollouts(ROLLOUTS, form="v2-base64")]
        for first in range(0, size, count):
            numbers = range(first, first + count)
            live.cycle([live.add_file(_ID.sub(b'"rollout_id": "old_%d"' % k, rollouts[k % ROLLOUTS])) for k in numbers])


def _section(seconds: dict[int, list[float]], memory_mb: dict[int, float], idle_mb: float) -> Section:
    smallest, largest = min(seconds), max(seconds)
    floor, idle = f"warm cycle, {smallest:,} old rollouts", "memory, the daemon without rollouts"
    figures = []
    for size, cycle_s in seconds.items():
        name = f"warm cycle, {size:,} old rollouts"
        figures.append(Figure(name, "s", tuple(cycle_s), "" if name == floor else floor))
    figures.append(Figure(idle, "MB", (idle_mb,)))
    for size, mb in memory_mb.items():
        figures.append(Figure(f"memory, {size:,} old rollouts", "MB", (mb,), idle))
    text = f"Cycle with {largest:,} old rollouts, times that with {smallest:,}"
    claims = (
        ratio_claim(text, Sense.AT_MOST, MAX_RATIO, seconds[largest], seconds[smallest]),
        Claim(
            f"Daemon's memory with {largest:,} old rollouts, above idle",
            Sense.AT_MOST,
            MAX_MORE_MB,
            memory_mb[largest] - idle_mb,
            "MB",
        ),
    )
    notes = (f"{ROLLOUTS} new rollouts a cycle, default settings: batch 64, 10 epochs, some old ones drawn.",)
    return Section(NAME, "Old rollouts", tuple(figures), claims, notes=notes)
