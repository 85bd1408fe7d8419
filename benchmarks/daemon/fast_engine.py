"""The cycles of an engine that is always ahead: each publish finds the next cycle's rollouts ready.

10 rollouts of 2048 experiences, renamed into Exports at the moment of the publish, so that no trainer can be started in
the time between two cycles. Beside: the next warm trainer starts while the last one trains. Cold: `warm_trainer =
false`, so each cycle starts its own trainer.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.lib.live_daemon import LiveDaemon
from benchmarks.lib.measurement import Figure, Section
from benchmarks.lib.progress import PrintProgress

NAME = "fast"
HELP = "cycles whose rollouts are ready at the publish before, with and without a warm trainer"
ROLLOUTS = 10
WATCH_S = 0.2


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=3, metavar="N", help="series of cycles of each daemon (3)")
    p.add_argument("--cycles", type=int, default=4, metavar="N", help="cycles of a series that are timed (4)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Run series of cycles of both daemons alternately."""
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-fast-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        daemons = [
            stack.enter_context(LiveDaemon(kind, Path(name) / kind, _config(is_warm=kind == "beside")))
            for kind in ("beside", "cold")
        ]
        seconds: dict[str, list[float]] = {live.name: [] for live in daemons}
        peak_mb: dict[str, list[float]] = {live.name: [] for live in daemons}
        for k in range(arguments.rounds):
            for live in daemons:
                series = [live.collect_rollouts(ROLLOUTS, form="v2-base64") for _ in range(arguments.cycles + 1)]
                with _TrainerMemory(live) as memory:
                    live.time_publish(series[0])  # the first one comes after a pause
                    seconds[live.name] += [live.time_publish(files) for files in series[1:]]
                peak_mb[live.name].append(memory.peak_mb)
            print_progress(
                f"round {k + 1} of {arguments.rounds}: "
                + ", ".join(f"{kind} {values[-1]:.2f} s" for kind, values in seconds.items())
            )
    return _section(seconds, peak_mb)


def _config(*, is_warm: bool) -> str:
    daemon = f"[daemon]\nauto_train_after_n_rollouts = {ROLLOUTS}\nwarm_trainer = {str(is_warm).lower()}\n"
    return f"{daemon}[trainer]\nhistory_ratio = 0\n"


def _section(seconds: dict[str, list[float]], peak_mb: dict[str, list[float]]) -> Section:
    beside, cold = seconds["beside"], seconds["cold"]
    floor = "cycle, each starts its own trainer"
    figures = (
        Figure("cycle, the next trainer starts beside the last one", "s", tuple(beside), floor),
        Figure(floor, "s", tuple(cold)),
        Figure("largest memory of all trainers, beside", "MB", tuple(peak_mb["beside"])),
        Figure("largest memory of all trainers, cold", "MB", tuple(peak_mb["cold"])),
    )
    notes = (
        f"{ROLLOUTS} rollouts of 2,048 experiences, 10 epochs, no old rollouts. They are renamed into Exports when the",
        "model before is published. Pages that processes share count once in their memory. It has no limit, because",
        "the difference depends on whether a core is free.",
    )
    return Section(NAME, "An engine that is always ahead", figures, notes=notes)


class _TrainerMemory:
    """The largest memory of a daemon's trainers while the `with` block runs."""

    def __init__(self, live: LiveDaemon) -> None:
        self._process = live.process()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="trainer memory", daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> _TrainerMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(WATCH_S):
            with contextlib.suppress(psutil.Error):
                self.peak_mb = max(self.peak_mb, sum(map(_memory_mb, self._process.children(recursive=True))))


def _memory_mb(process: psutil.Process) -> float:
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0.0
    return float(getattr(memory, "pss", memory.rss) / 1e6)
