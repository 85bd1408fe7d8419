"""Draw the dashboard of a project as SVG: `python scripts/dashboard_picture.py PROJECT OUT.svg [WIDTH HEIGHT]`.

Reads status.json, the ledger and the log; no daemon has to run. It draws the picture in the README.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from daemon.ledger.ledger import Ledger
from daemon.ui.dashboard import snapshot_svg
from daemon.ui.snapshot import Snapshot, SystemStats
from daemon.ui.system_stats import INTERVAL_S, SystemStatsSampler
from schemas.status import DaemonState, Status
from schemas.storage.files import read_with_retries
from schemas.storage.layout import ProjectPaths


def _system_stats(status: Status) -> SystemStats:
    """Return the current use of CPU, memory and GPU, with the daemon's and trainer's memory if they run."""
    sampler = SystemStatsSampler()
    sampler.sample(None)
    time.sleep(INTERVAL_S)
    stats = replace(sampler.sample(None), daemon_memory=0)
    try:
        daemon = psutil.Process(status.pid)
        if abs(daemon.create_time() - status.create_time) < 1.0:
            children = daemon.children(recursive=True) if status.state is DaemonState.TRAINING else []
            trainers = sum(child.memory_info().rss for child in children)
            stats = replace(stats, daemon_memory=daemon.memory_info().rss, trainer_memory=trainers)
    except psutil.Error:
        pass
    return stats


def main(arguments: list[str]) -> int:
    """Write the SVG and return the exit code."""
    if len(arguments) not in {2, 4}:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    paths, out = ProjectPaths(Path(arguments[0]).resolve()), Path(arguments[1])
    width, height = map(int, arguments[2:] or ("100", "30"))
    try:
        status = Status.from_bytes(read_with_retries(paths.status, limit=10_000_000))
        log = paths.daemon_log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    except OSError as error:
        sys.stderr.write(f"{error.filename} cannot be read: {error.strerror}. Start a daemon in that project first.\n")
        return 3
    ledger = Ledger.open(paths.ledger, read_only=True)
    try:
        cycles = tuple(ledger.history(120))
    finally:
        ledger.close()
    stats = _system_stats(status)
    snapshot = Snapshot(status, cycles, tuple(log), stats, paths.project.name, status.heartbeat)
    out.write_text(snapshot_svg(snapshot, width, height), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
