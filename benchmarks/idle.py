"""What the daemon costs while it waits: `python -m benchmarks idle --help`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import machine
from benchmarks.children import Child, RunError
from schemas.layout import Layout
from schemas.status import Status

PATIENCE_S = 180.0
MOST_MEMORY_MB = 80.0
MOST_CPU_PERCENT = 1.0


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("idle", help="memory and CPU of the waiting daemon", description=__doc__)
    p.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long each of the looks is (10)")
    p.add_argument("--looks", type=int, default=5, metavar="N", help="how many (5)")
    p.set_defaults(run=main)


def main(given: argparse.Namespace) -> int:
    """Print the table; 0 where the daemon stays under 80 MB and 1 % of a core."""
    with tempfile.TemporaryDirectory(prefix="hotlap-idle-") as name:
        folder = Path(name)
        arguments = ["-m", "daemon", "--no-dashboard", "--project", str(folder)]
        with Child("daemon", arguments, folder=folder, hears_lines=False) as daemon:
            process = _wait_until_idle(daemon, folder)
            cpu_percents = [_cpu_percent(process, given.seconds) for _ in range(given.looks)]
            memory_mb = process.memory_info().rss / 1e6
            spare_mb = sum(child.memory_info().rss for child in process.children(recursive=True)) / 1e6
            has_torch = any("torch" in mapped.path for mapped in process.memory_maps())
    print(f"on {machine.in_words(machine.describe())}")
    print("| the waiting daemon | median | least to most | limit |")
    print("|---|---|---|---|")
    cpu = statistics.median(cpu_percents)
    print(
        f"| CPU, % of a core | {cpu:.2f} | {min(cpu_percents):.2f} to {max(cpu_percents):.2f} | {MOST_CPU_PERCENT:g} |"
    )
    print(f"| memory, MB | {memory_mb:.0f} | | {MOST_MEMORY_MB:g} |")
    print(f"| torch in the process | {'yes' if has_torch else 'no'} | | no |")
    print(f"| the spare trainer beside it, MB | {spare_mb:.0f} | | |")
    return 0 if cpu < MOST_CPU_PERCENT and memory_mb < MOST_MEMORY_MB and not has_torch else 1


def _wait_until_idle(daemon: Child, folder: Path) -> psutil.Process:
    """Wait for version 0 and for the spare trainer to have done its imports."""
    status, until = Layout(folder).status, time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if (code := daemon.poll()) is not None:
            raise RunError(f"the daemon ended with code {code}:\n{daemon.last_words()}")
        if status.exists() and (told := Status.from_bytes(status.read_bytes())).best_model_path:
            process = psutil.Process(told.pid)
            spares = process.children()
            if spares and _cpu_percent(spares[0], 2.0) < 5.0:
                return process
        time.sleep(0.2)
    raise RunError(f"the daemon is not idle after {PATIENCE_S:.0f} s:\n{daemon.last_words()}")


def _cpu_percent(process: psutil.Process, seconds: float) -> float:
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, took_s = process.cpu_times(), time.monotonic() - began
    return 100.0 * (after.user + after.system - before.user - before.system) / took_s
