"""kill -9 of a daemon at random times, with invariant checks after each kill and each restart.

python -m scripts.faults.random_kills --count 200          with a fast fake trainer: many cycles
python -m scripts.faults.random_kills --count 20 --real    with the demo's engine and the real trainer
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
from scripts.faults.lib.progress import NoProgress, Progress

ROOT = Path(__file__).resolve().parents[2]
FAST_DAEMON = ROOT / "tests" / "fakes" / "whole_daemon.py"
AFTER_KILL = {
    Invariant.ENGINE_VIEW,
    Invariant.LEDGER,
    Invariant.COUNTED_ONCE,
    Invariant.NOTHING_LOST,
    Invariant.USER_FILES,
}
ORPHANS_TIMEOUT_S = 5.0
START_TIMEOUT_S = 60.0


@dataclass
class KillResult:
    """The counts and violations of a run."""

    kills: int = 0
    during_start: int = 0
    cycles: int = 0
    versions: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, when: str, found: Iterable[Violation]) -> None:
        """Add the violations found after a kill."""
        self.violations += [f"kill {self.kills}, {when}: {violation}" for violation in found]

    def line(self) -> str:
        """Return the counts in words."""
        return (
            f"{self.kills} kills ({self.during_start} while it started), {self.versions} models published "
            f"by {self.cycles} cycles, {len(self.violations)} violations"
        )


class Feeder:
    """Writes rollouts as an engine does, on another thread, until `stop`."""

    def __init__(self, exports: Path, every_s: float) -> None:
        self._exports, self._every_s = exports, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        from tests.helpers import write_rollout

        index = 0
        while not self._stop.wait(self._every_s):
            index += 1
            write_rollout(self._exports, index)

    def stop(self) -> None:
        """Stop writing."""
        self._stop.set()
        self._thread.join()


def command_of(project: Path, *, real: bool) -> list[str]:
    """Return the command of the daemon that is killed."""
    program = ["-m", "daemon", "--demo"] if real else [str(FAST_DAEMON)]
    return [sys.executable, *program, "--no-dashboard", "--project", str(project)]


def start(project: Path, *, real: bool) -> subprocess.Popen[bytes]:
    """Start a daemon with short cycles."""
    quick: dict[str, object] = {
        "AUTO_TRAIN_AFTER_N_ROLLOUTS": 2,
        "SCAN_INTERVAL_S": 0.3,
        "SETTLE_S": 0.05,
        "RETRY_DELAY_S": 0.2,
    }
    quick |= {"CLEAR_EXPORTS_AFTER_TRAINING": "true"}  # so that the folder does not grow
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


def leftover_processes(paths: ProjectPaths) -> list[Violation]:
    """Return the processes that are still running after `ORPHANS_TIMEOUT_S`."""
    until = time.monotonic() + ORPHANS_TIMEOUT_S
    while True:
        left = [v for v in check_invariants(paths.project) if v.invariant is Invariant.NO_PROCESS]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.1)


def rollout_fingerprints(paths: ProjectPaths) -> dict[str, FileFingerprint]:
    """Return the fingerprints of the rollouts in Exports."""
    return {name: known for name, known in fingerprints_of(paths.exports).items() if is_rollout_name(name)}


def kill_at_random(
    project: Path, count: int, *, seed: int, real: bool, longest_s: float, progress: Progress | None = None
) -> KillResult:
    """Kill a daemon `count` times, each time within `longest_s` seconds, in 4 of 5 cases after it has started."""
    paths, rng, result = ProjectPaths(project), random.Random(seed), KillResult()
    progress = progress or NoProgress()
    progress.summary = result.line
    paths.make()
    feeder = None if real else Feeder(paths.exports, every_s=0.4)
    known: dict[str, FileFingerprint] = {}
    try:
        for result.kills in range(1, count + 1):
            process = start(project, real=real)
            try:
                waits_for_start, delay_s = rng.random() < 0.8, rng.uniform(0.0, longest_s)
                until = time.monotonic() + (START_TIMEOUT_S if waits_for_start else delay_s)
                checked = False
                while time.monotonic() < until:
                    if not checked and is_up(paths, process):
                        checked = True
                        until = time.monotonic() + delay_s
                        result.add("after the restart", check_invariants(project, before=known, may_clear=True))
                    if process.poll() is not None:
                        result.violations.append(f"kill {result.kills}: it ended by itself with {process.returncode}")
                        break
                    time.sleep(0.02)
                result.during_start += not checked
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
            found = check_invariants(project, before=known, may_clear=True)
            result.add("right after it", (v for v in found if v.invariant in AFTER_KILL))
            result.add("its processes", leftover_processes(paths))
            known |= rollout_fingerprints(paths)
            progress.advance(violations=result.violations[progress.violations :])
    finally:
        if feeder is not None:
            feeder.stop()
    _finish(project, result, known, real=real)
    return result


def _finish(project: Path, result: KillResult, known: dict[str, FileFingerprint], *, real: bool) -> None:
    """Let the daemon publish one more model, stop it with SIGTERM, and check the invariants again."""
    paths = ProjectPaths(project)
    process = start(project, real=real)
    try:
        until = time.monotonic() + START_TIMEOUT_S
        before = -1
        while time.monotonic() < until and process.poll() is None:
            if is_up(paths, process):
                version = int(orjson.loads(paths.status.read_bytes())["policy_version"])
                before = version if before < 0 else before
                if not real and version >= before and orjson.loads(paths.status.read_bytes())["state"] == "idle":
                    break
                if real and version > before:
                    break
            time.sleep(0.1)
        else:
            result.violations.append("the daemon published no model after the last start")
        process.terminate()
        process.wait(timeout=20.0)
    finally:
        process.kill()
        process.wait()
    assert not is_held(paths.lock)
    result.add("at the end", check_invariants(project, before=known, may_clear=True, litter_age_s=0.0))
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.open(paths.ledger, read_only=True)
    result.cycles, result.versions = len(ledger.history()), len(ledger.publications())
    ledger.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kills and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.random_kills", description=__doc__)
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--real", action="store_true", help="the demo, with the real trainer")
    parser.add_argument("--longest", type=float, default=0.0, metavar="S", help="maximum seconds until a kill")
    options = parser.parse_args(arguments)
    longest_s = options.longest or (20.0 if options.real else 4.0)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve() / "project"
        project.mkdir()
        with Progress("random kills", options.count, unit="kills") as progress:
            result = kill_at_random(
                project, options.count, seed=options.seed, real=options.real, longest_s=longest_s, progress=progress
            )
    sys.stdout.write(f"random kills: {result.line()}, {time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"  {violation}\n" for violation in result.violations))
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
