"""CPU and memory of an idle daemon."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.lib.live_daemon import LiveDaemon
from benchmarks.lib.measurement import Claim, Figure, Section, Sense, median_claim
from benchmarks.lib.progress import PrintProgress

NAME = "idle"
HELP = "memory and CPU of the waiting daemon"
MAX_MEMORY_MB = 80.0
MAX_CPU_PERCENT = 1.0


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of each measurement (3)")
    p.add_argument("--repeats", type=int, default=5, metavar="N", help="number of measurements (5)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Measure a daemon that has published version 0 and keeps a warm trainer."""
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-idle-", ignore_cleanup_errors=True) as name,
        LiveDaemon("daemon", Path(name) / "project", "") as live,
    ):
        warm_trainer, process = live.wait_for_warm_trainer(), live.process()
        print_progress(f"idle now; {arguments.repeats} measurements of {arguments.seconds:g} s")
        cpu = [_cpu_percent(process, arguments.seconds) for _ in range(arguments.repeats)]
        memory_mb, warm_trainer_mb = live.memory_mb(), warm_trainer.memory_info().rss / 1e6
        torch_files = sum("torch" in mapped.path for mapped in process.memory_maps())
    figures = (
        Figure("CPU, of a core", "%", tuple(cpu)),
        Figure("memory", "MB", (memory_mb,)),
        Figure("files of torch in the process", "", (float(torch_files),)),
        Figure("memory of the warm trainer", "MB", (warm_trainer_mb,)),
    )
    claims = (
        median_claim("The waiting daemon's CPU, of a core", Sense.UNDER, MAX_CPU_PERCENT, cpu, "%"),
        Claim("The waiting daemon's memory", Sense.UNDER, MAX_MEMORY_MB, memory_mb, "MB"),
        Claim("Files of torch in the waiting daemon", Sense.UNDER, 1.0, float(torch_files)),
    )
    return Section(NAME, "The daemon while it waits", figures, claims)


def _cpu_percent(process: psutil.Process, seconds: float) -> float:
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, elapsed_s = process.cpu_times(), time.monotonic() - began
    return 100.0 * (after.user + after.system - before.user - before.system) / elapsed_s
