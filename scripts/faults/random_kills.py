"""kill -9 of a daemon at random moments while rollouts keep coming; after each, and after each restart, the oracle.

python -m scripts.faults.random_kills --count 200          a fast trainer: many cycles
python -m scripts.faults.random_kills --count 20 --real    the demo, with its engine and the real trainer
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from daemon.diagnostics.invariants import FileFingerprint, Invariant, Violation, check_invariants, fingerprints_of
from daemon.runtime.instance_lock import is_held
from schemas.storage.layout import ProjectPaths, is_rollout_name

ROOT = Path(__file__).resolve().parents[2]
FAST_DAEMON = ROOT / "tests" / "fakes" / "whole_daemon.py"
AT_ONCE = {
    Invariant.ENGINE_VIEW,
    Invariant.LEDGER,
    Invariant.COUNTED_ONCE,
    Invariant.NOTHING_LOST,
    Invariant.USER_FILES,
}
ORPHANS_TIMEOUT_S = 5.0
START_TIMEOUT_S = 60.0


@dataclass
class Killed:
    """What came of it."""

    kills: int = 0
    before_the_start_was_over: int = 0
    cycles: int = 0
    versions: int = 0
    violations: list[str] = field(default_factory=list)

    def note(self, when: str, found: Iterable[Violation]) -> None:
        """Note what is broken."""
        self.violations += [f"kill {self.kills}, {when}: {violation}" for violation in found]

    def line(self) -> str:
        """Return the counts in words."""
        return (
            f"{self.kills} kills ({self.before_the_start_was_over} while it started), {self.versions} models published "
            f"by {self.cycles} cycles meanwhile, {len(self.violations)} violations"
        )


class Feeder:
    """Drops rollouts as an engine does, until it is told to stop."""

    def __init__(self, exports: Path, every_s: float) -> None:
        self._exports, self._every_s = exports, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        from tests.helpers import drop

        index = 0
        while not self._stop.wait(self._every_s):
            index += 1
            drop(self._exports, index)

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()


def command_of(project: Path, *, real: bool) -> list[str]:
    """Return the command of the daemon to be killed."""
    program = ["-m", "daemon", "--demo"] if real else [str(FAST_DAEMON)]
    return [sys.executable, *program, "--no-dashboard", "--project", str(project)]


def start(project: Path, *, real: bool) -> subprocess.Popen[bytes]:
    """Start a daemon with small, quick cycles."""
    quick: dict[str, object] = {
        "AUTO_TRAIN_AFTER_N_ROLLOUTS": 2,
        "SCAN_INTERVAL_S": 0.3,
        "SETTLE_S": 0.05,
        "RETRY_DELAY_S": 0.2,
    }
    quick |= {"CLEAR_EXPORTS_AFTER_TRAINING": "true"}  # or the folder grows with every minute
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOTLAP_TRAINER__EPOCHS": "2"}
    environment |= {f"HOTLAP_DAEMON__{name}": str(value) for name, value in quick.items()}
    return subprocess.Popen(
        command_of(project, real=real), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def is_up(paths: ProjectPaths, process: subprocess.Popen[bytes]) -> bool:
    """Return whether this daemon has written its status."""
    try:
        return bool(orjson.loads(paths.status.read_bytes())["pid"] == process.pid)
    except (OSError, orjson.JSONDecodeError, KeyError):
        return False


def orphans(paths: ProjectPaths) -> list[Violation]:
    """Return the processes that are still there after the time that they may take to end."""
    until = time.monotonic() + ORPHANS_TIMEOUT_S
    while True:
        left = [v for v in check_invariants(paths.project) if v.invariant is Invariant.NO_PROCESS]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.1)


def known_prints(paths: ProjectPaths) -> dict[str, FileFingerprint]:
    """Return the prints of the rollouts in Exports."""
    return {name: known for name, known in fingerprints_of(paths.exports).items() if is_rollout_name(name)}


def kill_at_random(project: Path, count: int, *, seed: int, real: bool, longest_s: float) -> Killed:
    """Kill a daemon `count` times, each time within `longest_s` seconds; four of five times after its start."""
    layout, chance, killed = ProjectPaths(project), random.Random(seed), Killed()
    layout.make()
    feeder = None if real else Feeder(layout.exports, every_s=0.4)
    known: dict[str, FileFingerprint] = {}
    try:
        for killed.kills in range(1, count + 1):
            process = start(project, real=real)
            try:
                waits_for_start, delay_s = chance.random() < 0.8, chance.uniform(0.0, longest_s)
                until = time.monotonic() + (START_TIMEOUT_S if waits_for_start else delay_s)
                asked = False
                while time.monotonic() < until:
                    if not asked and is_up(layout, process):
                        asked = True
                        until = time.monotonic() + delay_s
                        killed.note("after the restart", check_invariants(project, before=known, may_clear=True))
                    if process.poll() is not None:
                        killed.violations.append(f"kill {killed.kills}: it ended by itself with {process.returncode}")
                        break
                    time.sleep(0.02)
                killed.before_the_start_was_over += not asked
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
            found = check_invariants(project, before=known, may_clear=True)
            killed.note("right after it", (v for v in found if v.invariant in AT_ONCE))
            killed.note("its processes", orphans(layout))
            known |= known_prints(layout)
    finally:
        if feeder is not None:
            feeder.stop()
    _finish(project, killed, known, real=real)
    return killed


def _finish(project: Path, killed: Killed, known: dict[str, FileFingerprint], *, real: bool) -> None:
    """Let it run in peace until a model more is published, stop it as people do, and ask once more."""
    layout = ProjectPaths(project)
    process = start(project, real=real)
    try:
        until = time.monotonic() + START_TIMEOUT_S
        before = -1
        while time.monotonic() < until and process.poll() is None:
            if is_up(layout, process):
                version = int(orjson.loads(layout.status.read_bytes())["policy_version"])
                before = version if before < 0 else before
                if not real and version >= before and orjson.loads(layout.status.read_bytes())["state"] == "idle":
                    break
                if real and version > before:
                    break
            time.sleep(0.1)
        else:
            killed.violations.append("the last start came to nothing")
        process.terminate()
        process.wait(timeout=20.0)
    finally:
        process.kill()
        process.wait()
    assert not is_held(layout.lock)
    killed.note("at the end", check_invariants(project, before=known, may_clear=True, litter_age_s=0.0))
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.open(layout.ledger, read_only=True)
    killed.cycles, killed.versions = len(ledger.history()), len(ledger.publications())
    ledger.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.random_kills", description=__doc__)
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--real", action="store_true", help="the demo with the real trainer")
    parser.add_argument("--longest", type=float, default=0.0, metavar="S", help="seconds until a kill, at most")
    options = parser.parse_args(arguments)
    longest_s = options.longest or (20.0 if options.real else 4.0)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve() / "project"
        project.mkdir()
        killed = kill_at_random(project, options.count, seed=options.seed, real=options.real, longest_s=longest_s)
    sys.stdout.write(f"random kills: {killed.line()}, {time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"  {violation}\n" for violation in killed.violations))
    return 1 if killed.violations else 0


if __name__ == "__main__":
    sys.exit(main())
