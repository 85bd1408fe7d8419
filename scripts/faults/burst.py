"""Very many rollouts: some exist when the daemon starts, others are written at once while it runs.

python -m scripts.faults.burst --present 200000 --files 50000    print times and memory; takes some minutes
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from schemas.storage.layout import ProjectPaths
from scripts.faults.lib.mutations import seeds
from scripts.faults.lib.progress import NoProgress, Progress

ROOT = Path(__file__).resolve().parents[2]
_MARK = b'"timestamp": "'


@dataclass(frozen=True, slots=True)
class BurstResult:
    """The measurements; times in seconds, memory in MB."""

    started_s: float  #: until status.json exists
    present_s: float  #: from the start until all rollouts that existed are counted
    burst_s: float  #: from the first new file until all are counted
    peak_mb: float
    longest_silence_s: float  #: between two heartbeats
    counted: int
    twice: int

    def line(self) -> str:
        """Return the result in words."""
        return (
            f"up after {self.started_s:.1f} s; existing files counted after {self.present_s:.1f} s, new ones after"
            f" {self.burst_s:.1f} s; {self.counted:,} counted, {self.twice} of them twice; at most {self.peak_mb:.0f}"
            f" MB; longest silence {self.longest_silence_s:.1f} s"
        )


class WatchedDaemon:
    """A daemon in another process, and its measurements."""

    def __init__(self, project: Path) -> None:
        self.paths = ProjectPaths(project)
        command = [sys.executable, "-m", "daemon", "--project", str(project), "--no-dashboard"]
        environment = os.environ | {"HOTLAP_DAEMON__WARM_TRAINER": "false"}
        self._child = subprocess.Popen(
            [*command, "--after-n-rollouts", "1000000000"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        self._process = psutil.Process(self._child.pid)
        self.peak_mb = 0.0
        self.longest_silence_s = 0.0

    def until(self, condition: Callable[[], bool], *, timeout_s: float) -> float:
        """Wait for a condition; return the seconds. Raises TimeoutError."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s or self._child.poll() is not None:
                raise TimeoutError(self.paths.daemon_log.read_text(encoding="utf-8")[-2000:])
            self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)
            if self.paths.status.exists():
                self.longest_silence_s = max(self.longest_silence_s, time.time() - self.paths.status.stat().st_mtime)
            time.sleep(0.05)
        return time.monotonic() - began

    def counts(self) -> tuple[int, int]:
        """Return the numbers of rollouts and of files in the ledger."""
        db = sqlite3.connect(f"{self.paths.ledger.as_uri()}?mode=ro", uri=True, timeout=20.0)
        try:
            rollouts = db.execute("SELECT count(*) FROM rollout").fetchone()[0]
            return rollouts, db.execute("SELECT count(*) FROM file").fetchone()[0]
        except sqlite3.OperationalError:
            return 0, 0
        finally:
            db.close()

    def stop(self) -> None:
        """Send SIGTERM; kill it if it has not ended after 20 s."""
        self._child.terminate()
        try:
            self._child.wait(20.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def write_rollouts(folder: Path, first: int, count: int, progress: Progress | None = None) -> None:
    """Write `count` small rollouts with different bytes, as Unreal does."""
    template = seeds()[1]
    head, _, tail = template.partition(_MARK)
    for number in range(first, first + count):
        path = folder / f"rollout_{number}_20261121_120000.json"
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_bytes(head + _MARK + str(number).encode() + tail)
        os.replace(temporary, path)
        if progress is not None:
            progress.advance()


def measure(
    project: Path, *, present: int, files: int, timeout_s: float = 1800.0, progress: Progress | None = None
) -> BurstResult:
    """Start a daemon on `present` rollouts and write `files` more. Raises TimeoutError."""
    paths = ProjectPaths(project)
    paths.make()
    progress = progress or NoProgress()
    progress.begin("files before the start", present, unit="written")
    write_rollouts(paths.exports, 0, present, progress)
    daemon = WatchedDaemon(project)

    def all_counted(total: int) -> bool:
        counted = daemon.counts()[0]
        progress.advance(counted - progress.done)
        return counted >= total

    try:
        began = time.monotonic()
        started_s = daemon.until(paths.status.exists, timeout_s=60.0)
        progress.begin("files before the start", present, unit="counted")
        daemon.until(lambda: all_counted(present), timeout_s=timeout_s)
        present_s = time.monotonic() - began
        began = time.monotonic()
        write_rollouts(paths.exports, present, files)
        progress.begin("all files", present + files, unit="counted")
        daemon.until(lambda: all_counted(present + files), timeout_s=timeout_s)
        burst_s = time.monotonic() - began
        counted, known = daemon.counts()
        return BurstResult(
            started_s=started_s,
            present_s=present_s,
            burst_s=burst_s,
            peak_mb=daemon.peak_mb,
            longest_silence_s=daemon.longest_silence_s,
            counted=counted,
            twice=counted - known,
        )
    finally:
        daemon.stop()


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--present", type=int, default=200_000, metavar="N", help="files before the start (200000)")
    parser.add_argument("--files", type=int, default=50_000, metavar="N", help="files while it runs (50000)")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="hotlap-burst-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` ends the daemon and removes the folder
    try:
        with Progress("burst", unit="files") as progress:
            result = measure(folder, present=options.present, files=options.files, progress=progress)
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(f"{options.present:,} files and {options.files:,} more: {result.line()}\n")
    return 0 if result.counted == options.present + options.files and not result.twice else 1


if __name__ == "__main__":
    sys.exit(main())
