"""CPU and memory of an idle daemon."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.lib.live_daemon import Live
from benchmarks.lib.measurement import Claim, Figure, Section, Sense, median_claim
from benchmarks.lib.progress import Say

NAME = "idle"
HELP = "memory and CPU of the waiting daemon"
MOST_MEMORY_MB = 80.0
MOST_CPU_PERCENT = 1.0


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of each measurement (3)")
    p.add_argument("--looks", type=int, default=5, metavar="N", help="number of measurements (5)")


def measure(given: argparse.Namespace, say: Say) -> Section:
    """Measure a daemon that has published version 0 and keeps a warm trainer."""
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-idle-", ignore_cleanup_errors=True) as name,
        Live("daemon", Path(name) / "project", "") as live,
    ):
        spare, process = live.wait_spare(), live.process()
        say(f"idle now; {given.looks} looks of {given.seconds:g} s")
        cpu = [_cpu_percent(process, given.seconds) for _ in range(given.looks)]
        memory_mb, spare_mb = live.memory_mb(), spare.memory_info().rss / 1e6
        torch_files = sum("torch" in mapped.path for mapped in process.memory_maps())
    figures = (
        Figure("CPU, of a core", "%", tuple(cpu)),
        Figure("memory", "MB", (memory_mb,)),
        Figure("files of torch in the process", "", (float(torch_files),)),
        Figure("memory of the warm trainer", "MB", (spare_mb,)),
    )
    claims = (
        median_claim("The waiting daemon's CPU, of a core", Sense.UNDER, MOST_CPU_PERCENT, cpu, "%"),
        Claim("The waiting daemon's memory", Sense.UNDER, MOST_MEMORY_MB, memory_mb, "MB"),
        Claim("Files of torch in the waiting daemon", Sense.UNDER, 1.0, float(torch_files)),
    )
    return Section(NAME, "The daemon while it waits", figures, claims)


def _cpu_percent(process: psutil.Process, seconds: float) -> float:
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, took_s = process.cpu_times(), time.monotonic() - began
    return 100.0 * (after.user + after.system - before.user - before.system) / took_s
