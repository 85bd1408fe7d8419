"""kill -9 at every syscall of a publish and every step of a cycle, and every disk error; invariant checks after each.

python -m scripts.faults.kill_sweep           sweep every point and print the counts; the syscalls need strace
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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.faults.lib.progress import NoProgress, Progress

ROOT = Path(__file__).resolve().parents[2]
CHANGING = frozenset(
    {"openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat"}
    | {"mkdir", "mkdirat", "rmdir", "link", "linkat", "ftruncate"}
)
"""The syscalls that change the disk."""
_ATTACH_TIMEOUT_S = 10.0
_SYSCALL = re.compile(r"^\d+ +(\w+)\(")


@dataclass
class SweepResult:
    """The points and violations of a sweep."""

    points: collections.Counter[str] = field(default_factory=collections.Counter)  #: kind -> how many
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the counts in words."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.points.items()))
        return f"{sum(self.points.values())} points, {len(self.violations)} violations ({kinds})"


Check = Callable[[Path], list[str]]
"""Returns the violations in a project folder right after a kill and after the next start."""


class ChildForker:
    """Forks the child processes that are killed, from one program that has imported all modules."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "faults" / "support" / "killed_program.py")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *words: object) -> int:
        """Fork a child and return its pid."""
        assert self._server.stdin is not None
        self._server.stdin.write("\t".join(map(str, words)) + "\n")
        self._server.stdin.flush()
        return int(self._answer())

    def wait(self) -> tuple[int, str]:
        """Wait for the end of the child; return its exit code and its last output."""
        code, _, words = self._answer().partition(" ")
        return int(code), words

    def _answer(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError("the program that forks the children ended")
        return line.strip()

    def close(self) -> None:
        """End the program that forks."""
        self._server.communicate()


def strace_works() -> bool:
    """Return whether strace is installed and permitted."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def _traced(pid: int, *options: str) -> Iterator[None]:
    """Attach strace to a process that has stopped itself, and let it continue."""
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
            raise RuntimeError(f"process {pid} did not reach {what!r}")
        time.sleep(0.001)


def calls_of_a_publish(forker: ChildForker, folder: Path) -> list[str]:
    """Return the lines that strace prints for a publish without a kill."""
    with tempfile.NamedTemporaryFile() as log:
        with _traced(forker.start("publish", folder), "-y", "-o", log.name):
            code, _ = forker.wait()
        if code != 0:
            raise RuntimeError(f"the publish itself failed with {code}")
        lines = Path(log.name).read_text(errors="replace").splitlines()
    return [line for line in lines if _SYSCALL.match(line)]


def sweep_syscalls(
    forker: ChildForker,
    make_project: Callable[[], Path],
    check: Check,
    *,
    only: Collection[str] | None = None,
    every: int = 1,
    progress: Progress | None = None,
) -> SweepResult:
    """Kill a publish at the entry of each syscall in turn. With `every` n, only at each n-th."""
    result = SweepResult()
    calls = calls_of_a_publish(forker, make_project())
    counts = collections.Counter(match.group(1) for line in calls if (match := _SYSCALL.match(line)))
    progress = progress or NoProgress()
    progress.begin("kills at a syscall", sum(counts.values()) // every)
    for name in sorted(counts if only is None else set(counts) & set(only)):
        for k in range(1, 2 * counts[name] + 100, every):
            folder = make_project()
            inject = f"inject={name}:signal=SIGKILL:when={k}"
            with _traced(forker.start("publish", folder), "-o", os.devnull, "-e", f"trace={name}", "-e", inject):
                code, _ = forker.wait()
            if code == 0:
                break
            if code != -signal.SIGKILL:
                result.violations.append(f"{name} {k}: it ended with {code}")
                break
            result.points[name] += 1
            found = [f"killed at {name} {k}: {wrong}" for wrong in check(folder)]
            result.violations += found
            progress.advance(violations=found)
    return result


_COPY = "/Models/.model_"


def sweep_failures(
    forker: ChildForker,
    make_project: Callable[[], Path],
    check: Check,
    syscall: str,
    error: str,
    progress: Progress | None = None,
) -> SweepResult:
    """Let each call of `syscall` fail in turn. The publish must not succeed then.

    Syncs of the folder State are left out: SQLite ignores their errors. So are those of the copies directly in Models,
    which never hold a publish back.
    """
    result = SweepResult()
    calls = [line for line in calls_of_a_publish(forker, make_project()) if f" {syscall}(" in line]
    progress = progress or NoProgress()
    progress.begin(f"failed {syscall}", len(calls))
    for k, line in enumerate(calls, start=1):
        if syscall == "fdatasync" and line.partition("<")[2].partition(">")[0].endswith("/State"):
            continue
        if _COPY in line or ("/Models>" in line and k > 1 and _COPY in calls[k - 2]):
            continue
        folder = make_project()
        inject = f"inject={syscall}:error={error}:when={k}"
        with _traced(forker.start("publish", folder), "-o", os.devnull, "-e", f"trace={syscall}", "-e", inject):
            code, _ = forker.wait()
        result.points[syscall] += 1
        found = [f"{syscall} {k} failed with {error}: {wrong}" for wrong in check(folder)]
        if code == 0:
            found.append(f"{syscall} {k} of {len(calls)} failed with {error}, but the publish succeeded")
        result.violations += found
        progress.advance(violations=found)
    return result


def sweep_steps(
    forker: ChildForker,
    make_project: Callable[[], Path],
    check: Check,
    what: str,
    *,
    every: int = 1,
    first: int = 1,
    progress: Progress | None = None,
) -> SweepResult:
    """Kill a daemon before each disk operation, or each ledger statement, of one cycle."""
    result, progress = SweepResult(), progress or NoProgress()
    if not isinstance(progress, NoProgress):
        forker.start("cycle", make_project(), what, 0)
        progress.begin(f"kills before a step, {what}", int(forker.wait()[1].split()[0]) // every)
    for number in range(first, 100_000, every):
        folder = make_project()
        forker.start("cycle", folder, what, number)
        code, words = forker.wait()
        if code == 0:
            break
        if code != -signal.SIGKILL:
            result.violations.append(f"{what} {number}: it ended with {code}")
            break
        result.points[f"step of the {what}"] += 1
        found = [f"killed before {what} operation {words}: {wrong}" for wrong in check(folder)]
        result.violations += found
        progress.advance(violations=found)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all sweeps and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.kill_sweep", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try only each N-th point")
    options = parser.parse_args(arguments)
    from tests.faults.support.disk import FAULTS
    from tests.faults.support.failing import sweep_faults
    from tests.faults.support.killing import ProjectTemplates, check_after_kill

    def all_faults(number: int) -> Iterable[str]:
        return FAULTS

    broken, every = 0, options.every
    with (
        Progress("kill sweep", unit="points") as progress,
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(ChildForker()) as forker,
    ):
        projects = ProjectTemplates(Path(folder).resolve())
        fresh, pending = (forker, projects.fresh, check_after_kill), (forker, projects.pending, check_after_kill)
        sweeps: list[tuple[str, Callable[[], SweepResult]]] = [
            ("kills before a step, disk", lambda: sweep_steps(*fresh, "disk", every=every, progress=progress)),
            ("kills before a step, ledger", lambda: sweep_steps(*fresh, "ledger", every=every, progress=progress)),
            ("failed operations", lambda: sweep_faults(projects.fresh, all_faults, every=every, progress=progress)),
            (
                "failed for a while",
                lambda: sweep_faults(projects.fresh, all_faults, times=12, every=every, progress=progress),
            ),
        ]
        if strace_works():
            sweeps += [
                ("kills at a syscall of a publish", lambda: sweep_syscalls(*pending, every=every, progress=progress)),
                ("failed fsync", lambda: sweep_failures(*pending, "fsync", "EIO", progress)),
                ("failed fdatasync", lambda: sweep_failures(*pending, "fdatasync", "EIO", progress)),
            ]
        else:
            sys.stdout.write("syscalls of a publish: skipped, because strace is missing or not permitted\n")
        done: list[str] = []
        progress.summary = lambda: "; ".join(done)
        for name, sweep in sweeps:
            started = time.monotonic()
            result = sweep()
            done.append(f"{name}: {result.line()}, {time.monotonic() - started:.0f} s")
            sys.stdout.write(f"{done[-1]}\n")
            sys.stdout.write("".join(f"  {violation}\n" for violation in result.violations))
            sys.stdout.flush()
            broken += len(result.violations)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
