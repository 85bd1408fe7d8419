"""kill -9 at every syscall of a publish and before every step of a cycle; every failure of the disk; then the oracle.

python -m scripts.faults.kill_sweep           every point; prints the counts. The syscalls need strace.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHANGING = frozenset(
    {"openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat"}
    | {"mkdir", "mkdirat", "rmdir", "link", "linkat", "ftruncate"}
)
"""The syscalls between which the disk may look different."""
_ATTACH_TIMEOUT_S = 10.0
_SYSCALL = re.compile(r"^\d+ +(\w+)\(")


@dataclass
class Swept:
    """What a sweep found."""

    points: collections.Counter[str] = field(default_factory=collections.Counter)  #: kind -> how many
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the counts in words."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.points.items()))
        return f"{sum(self.points.values())} points, {len(self.violations)} violations ({kinds})"


Judge = Callable[[Path], list[str]]
"""Finds what is wrong with a project folder right after a kill, and after the next start."""


class Victims:
    """Children to be killed, forked by one program that has imported everything."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "faults" / "support" / "victim.py")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *words: object) -> int:
        """Have one forked; give its pid."""
        assert self._server.stdin is not None
        self._server.stdin.write("\t".join(map(str, words)) + "\n")
        self._server.stdin.flush()
        return int(self._answer())

    def ended(self) -> tuple[int, str]:
        """Wait for its end; give its exit code and its last words."""
        code, _, words = self._answer().partition(" ")
        return int(code), words

    def _answer(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the victims' program ended")
        return line.strip()

    def close(self) -> None:
        """End the program."""
        self._server.communicate()


def strace_works() -> bool:
    """Return whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def _traced(pid: int, *options: str) -> Iterator[None]:
    """Attach strace to a process once it has stopped itself, and let it go on."""
    until = time.monotonic() + _ATTACH_TIMEOUT_S
    _wait_for(pid, "State:\tT", until)
    strace = subprocess.Popen(["strace", "-f", "-qq", "-p", str(pid), *options], stderr=subprocess.DEVNULL)
    try:
        _wait_for(pid, f"TracerPid:\t{strace.pid}", until)
        os.kill(pid, signal.SIGCONT)
        yield
    finally:
        strace.wait()


def _wait_for(pid: int, what: str, until: float) -> None:
    while what not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            raise RuntimeError(f"process {pid} never came to {what!r}")
        time.sleep(0.001)


def calls_of_a_publish(victims: Victims, folder: Path) -> list[str]:
    """Return strace's lines of an undisturbed publish."""
    with tempfile.NamedTemporaryFile() as log:
        with _traced(victims.start("publish", folder), "-y", "-o", log.name):
            code, _ = victims.ended()
        if code != 0:
            raise RuntimeError(f"the publish itself failed with {code}")
        lines = Path(log.name).read_text(errors="replace").splitlines()
    return [line for line in lines if _SYSCALL.match(line)]


def sweep_syscalls(
    victims: Victims, lay_out: Callable[[], Path], judge: Judge, *, only: Collection[str] | None = None, every: int = 1
) -> Swept:
    """Kill a publish on entry to each syscall in turn, until it survives. `every` n takes each n-th point only."""
    swept = Swept()
    calls = calls_of_a_publish(victims, lay_out())
    counts = collections.Counter(match.group(1) for line in calls if (match := _SYSCALL.match(line)))
    for name in sorted(counts if only is None else set(counts) & set(only)):
        for k in range(1, 2 * counts[name] + 100, every):
            folder = lay_out()
            inject = f"inject={name}:signal=SIGKILL:when={k}"
            with _traced(victims.start("publish", folder), "-o", os.devnull, "-e", f"trace={name}", "-e", inject):
                code, _ = victims.ended()
            if code == 0:
                break
            if code != -signal.SIGKILL:
                swept.violations.append(f"{name} {k}: it ended with {code}")
                break
            swept.points[name] += 1
            swept.violations += [f"killed at {name} {k}: {wrong}" for wrong in judge(folder)]
    return swept


def sweep_failures(victims: Victims, lay_out: Callable[[], Path], judge: Judge, syscall: str, error: str) -> Swept:
    """Let each call of `syscall` on a file fail in turn: none of them may end in an acknowledged publish.

    (On a folder SQLite itself passes a failed sync over; ours are among the calls of fsync.)
    """
    swept = Swept()
    calls = [line for line in calls_of_a_publish(victims, lay_out()) if f" {syscall}(" in line]
    for k, line in enumerate(calls, start=1):
        if syscall == "fdatasync" and line.partition("<")[2].partition(">")[0].endswith("/State"):
            continue
        folder = lay_out()
        inject = f"inject={syscall}:error={error}:when={k}"
        with _traced(victims.start("publish", folder), "-o", os.devnull, "-e", f"trace={syscall}", "-e", inject):
            code, _ = victims.ended()
        swept.points[syscall] += 1
        if code == 0:
            swept.violations.append(f"{syscall} {k} of {len(calls)} failed with {error}, the publish was acknowledged")
        swept.violations += [f"{syscall} {k} failed with {error}: {wrong}" for wrong in judge(folder)]
    return swept


def sweep_steps(
    victims: Victims, lay_out: Callable[[], Path], judge: Judge, what: str, *, every: int = 1, first: int = 1
) -> Swept:
    """Kill a daemon before each operation of its disk, or each statement of its ledger, in one cycle."""
    swept = Swept()
    for number in range(first, 100_000, every):
        folder = lay_out()
        victims.start("cycle", folder, what, number)
        code, words = victims.ended()
        if code == 0:
            break
        if code != -signal.SIGKILL:
            swept.violations.append(f"{what} {number}: it ended with {code}")
            break
        swept.points[f"step of the {what}"] += 1
        swept.violations += [f"killed before {what} operation {words}: {wrong}" for wrong in judge(folder)]
    return swept


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep everything and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.kill_sweep", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th point only")
    options = parser.parse_args(arguments)
    from tests.faults.support.disk import FAULTS
    from tests.faults.support.failing import sweep_faults
    from tests.faults.support.killing import ProjectTemplates, judge

    broken, every = 0, options.every
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Victims()) as victims:
        projects = ProjectTemplates(Path(folder).resolve())
        sweeps: list[tuple[str, Callable[[], Swept]]] = [
            ("kills before a step, disk", lambda: sweep_steps(victims, projects.fresh, judge, "disk", every=every)),
            ("kills before a step, ledger", lambda: sweep_steps(victims, projects.fresh, judge, "ledger", every=every)),
            ("failed operations", lambda: sweep_faults(projects.fresh, lambda number: FAULTS, every=every)),
            ("failed for a while", lambda: sweep_faults(projects.fresh, lambda number: FAULTS, times=12, every=every)),
        ]
        if strace_works():
            sweeps += [
                (
                    "kills at a syscall of a publish",
                    lambda: sweep_syscalls(victims, projects.pending, judge, every=every),
                ),
                ("failed fsync", lambda: sweep_failures(victims, projects.pending, judge, "fsync", "EIO")),
                ("failed fdatasync", lambda: sweep_failures(victims, projects.pending, judge, "fdatasync", "EIO")),
            ]
        else:
            sys.stdout.write("syscalls of a publish: left out, strace is not there or may not trace\n")
        for name, sweep in sweeps:
            started = time.monotonic()
            swept = sweep()
            sys.stdout.write(f"{name}: {swept.line()}, {time.monotonic() - started:.0f} s\n")
            sys.stdout.write("".join(f"  {violation}\n" for violation in swept.violations))
            sys.stdout.flush()
            broken += len(swept.violations)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
