"""Draw the dashboard of a project as it stands: `python scripts/dashboard_picture.py PROJECT OUT.svg [WIDTH HEIGHT]`.

Reads status.json, the ledger and the log; a daemon may be running or not. For the picture in the README.
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
from schemas.storage.files import read_regular
from schemas.storage.layout import ProjectPaths


def _machine(status: Status) -> SystemStats:
    """What the machine is busy with, seen from the daemon if that still runs."""
    probe = SystemStatsSampler()
    probe.sample(None)
    time.sleep(INTERVAL_S)
    machine = replace(probe.sample(None), daemon_memory=0)
    try:
        daemon = psutil.Process(status.pid)
        if abs(daemon.create_time() - status.create_time) < 1.0:
            children = daemon.children(recursive=True) if status.state is DaemonState.TRAINING else []
            trainers = sum(child.memory_info().rss for child in children)
            machine = replace(machine, daemon_memory=daemon.memory_info().rss, trainer_memory=trainers)
    except psutil.Error:
        pass
    return machine


def main(arguments: list[str]) -> int:
    """Write the SVG; give the exit code."""
    if len(arguments) not in {2, 4}:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    layout, out = ProjectPaths(Path(arguments[0]).resolve()), Path(arguments[1])
    width, height = map(int, arguments[2:] or ("100", "30"))
    try:
        status = Status.from_bytes(read_regular(layout.status, limit=10_000_000))
        log = layout.daemon_log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    except OSError as error:
        sys.stderr.write(f"there is no daemon's status in {arguments[0]}: {error.strerror}\n")
        return 3
    ledger = Ledger.open(layout.ledger, read_only=True)
    try:
        cycles = tuple(ledger.history(120))
    finally:
        ledger.close()
    machine = _machine(status)
    view = Snapshot(status, cycles, tuple(log), machine, layout.project.name, status.heartbeat)
    out.write_text(snapshot_svg(view, width, height), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
