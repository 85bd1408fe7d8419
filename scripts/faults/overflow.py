"""More new files than the system's event queue can store: `python -m scripts.faults.overflow`.

The daemon is stopped with SIGSTOP while the files are written. The events are lost, so the folder scan must find every
file and count it once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.storage.layout import ProjectPaths
from scripts.faults.lib.progress import NoProgress, Progress

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0
NO_TRAINING = {"HOTLAP_DAEMON__AUTO_TRAIN_AFTER_N_ROLLOUTS": "1000000", "HOTLAP_DAEMON__WARM_TRAINER": "false"}


@dataclass(frozen=True, slots=True)
class OverflowResult:
    """The counts after the daemon has continued."""

    count: int  #: files written
    found: int  #: rollouts in the ledger, each content once
    files: int  #: names in the ledger
    rejected: int
    writing_s: float  #: for writing the files
    seconds: float  #: from SIGCONT until all were counted, or until the timeout


def rollout(number: int) -> bytes:
    """Return a small version 1 file; each number gives another rollout."""
    step = {"state": [number / 1e6] * 15, "action": {"steer": 0.1, "throttle": 0.5, "brake": 0.0}, "reward": 0.5}
    rest = {"done": False, "log_prob": -1.2, "value": 0.3, "advantage": 0.0, "return": 0.0, "agent_index": 0}
    document = {"experiences": [step | rest] * 2, "num_experiences": 2, "timestamp": "2026.11.21-12.00.00"}
    return json.dumps(document).encode()


def write(folder: Path, number: int) -> None:
    """Write one file as Unreal does, with alternating kinds of events, which the queue cannot merge."""
    path = folder / f"rollout_{number}_20261121_120000.json"
    temporary = path.with_name(f"{path.name}.tmp")
    data = rollout(number)
    with temporary.open("wb", buffering=0) as file:
        for start in range(0, len(data), 200):
            file.write(data[start : start + 200])
            temporary.chmod(0o600 if start % 400 else 0o644)
    temporary.replace(path)


def counted(ledger: Path) -> tuple[int, int, int]:
    """Return the numbers of rollouts, files and rejections in a ledger."""
    try:
        db = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    except sqlite3.Error:
        return 0, 0, 0
    try:
        rollouts, files, rejections = (
            int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in ("rollout", "file", "rejection")
        )
    except sqlite3.Error:
        return 0, 0, 0
    finally:
        db.close()
    return rollouts, files, rejections


def run(
    project: Path,
    count: int,
    *,
    timeout_s: float,
    settings: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> OverflowResult:
    """Write `count` files while a daemon is stopped; `settings` are environment variables for it.

    Raises RuntimeError if it does not start.
    """
    if sys.platform == "win32":
        raise RuntimeError("this needs SIGSTOP, which only POSIX systems have")
    paths, progress = ProjectPaths(project), progress or NoProgress()
    command = (sys.executable, "-m", "daemon", "--project", str(project), "--no-dashboard")
    daemon = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **NO_TRAINING, **(settings or {})},
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_until_idle(daemon, paths)
        daemon.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        progress.begin("files while the daemon is stopped", count, unit="written")
        for number in range(count):
            write(paths.exports, number)
            progress.advance()
        writing_s = time.monotonic() - began
        daemon.send_signal(signal.SIGCONT)
        began = time.monotonic()
        progress.begin("files after the daemon continued", count, unit="found")
        while True:
            rollouts, files, rejected = counted(paths.ledger)
            progress.advance(files - progress.done)
            seconds = time.monotonic() - began
            if files + rejected >= count or seconds > timeout_s or daemon.poll() is not None:
                return OverflowResult(count, rollouts, files, rejected, writing_s, seconds)
            time.sleep(0.1)
    finally:
        daemon.send_signal(signal.SIGCONT)
        daemon.terminate()
        try:
            daemon.wait(30.0)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait_until_idle(daemon: subprocess.Popen[bytes], paths: ProjectPaths) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and daemon.poll() is None:
        try:
            status = json.loads(paths.status.read_bytes())
        except (OSError, json.JSONDecodeError):
            status = {}
        if status.get("pid") == daemon.pid and status.get("state") == "idle" and paths.pointer.exists():
            return
        time.sleep(0.05)
    raise RuntimeError("the daemon did not become idle")


def main() -> int:
    """Run the command; return 0 if every file was counted once in under a minute."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.overflow", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="files to write (20000)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that `finally` ends the daemon
    folder = Path(tempfile.mkdtemp(prefix="hotlap-overflow-"))
    try:
        with Progress("overflow", unit="files") as progress:
            counts = run(folder, options.count, timeout_s=120.0, progress=progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(
        f"{counts.count} files while the daemon was stopped: {counts.files} found, {counts.found} counted once, "
        f"{counts.rejected} rejected, after {counts.seconds:.1f} s (they took {counts.writing_s:.1f} s to write)\n"
    )
    return 0 if counts.found == counts.files == counts.count and counts.seconds < 60.0 else 1


if __name__ == "__main__":
    sys.exit(main())
