"""A daemon on a disk that is full, read-only or limited in size, or without free file descriptors.

Usage: hard_disk.py SCENARIO FOLDER. The disk scenarios run as root in their own user namespace, in which FOLDER becomes
a small tmpfs. Prints `passed` if no invariant was violated.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.cli import main
from daemon.diagnostics.invariants import Invariant, fingerprints_of
from daemon.training import disk_space
from tests.faults.support.harness import InstantHarness, train, violations

AT_ANY_TIME = {Invariant.ENGINE_VIEW, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST, Invariant.LEDGER}


def expect(condition: object, what: str, harness: InstantHarness) -> None:
    if not condition:
        raise AssertionError(what + "; the log:\n" + "\n".join(harness.log.lines[-20:]))


def run_through_fault(
    harness: InstantHarness, fault: Callable[[], contextlib.AbstractContextManager[object]], *, passes: int = 12
) -> bool:
    """Run a daemon with two new rollouts during `fault`, then until it has published their model.

    Fails if an invariant is violated. Returns whether the daemon warned about the fault.
    """
    before, lines = harness.version, len(harness.log.lines)
    fingerprints = fingerprints_of(harness.paths.exports)
    with fault():
        for _ in range(passes):
            harness.tick()
    broken = [v for v in violations(harness.paths.project, before=fingerprints) if v.invariant in AT_ANY_TIME]
    expect(not broken, f"during the fault: {broken}", harness)
    harness.until(lambda: harness.version > before and not harness.runner.busy)
    harness.until(lambda: not harness.warnings() - {"W_CLOCK"})  # the clock of the tests is not that of files
    published = [p.policy_version for p in harness.ledger.publications()]
    expect(published == list(range(len(published))), f"published {published}", harness)
    return any(line.startswith("WARNING") for line in harness.log.lines[lines:])


def check_restarted(folder: Path) -> None:
    with InstantHarness(folder) as harness:
        harness.tick()
    left = violations(folder)
    assert left == (), left


@contextlib.contextmanager
def filled(folder: Path, leave: int) -> Iterator[None]:
    """Fill the disk until `leave` bytes are free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        file.write(bytes(max(0, free - leave)))
        if leave == 0:
            while True:
                file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()


def full_before(folder: Path) -> None:
    """Check that no cycle starts if the disk has too little space, and that the warning contains the needed space."""
    with InstantHarness(folder) as harness:
        harness.until_version(0)
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.ledger.pending_count() == 2 or harness.runner.busy)
        for leave in (0, 100_000, 5_000_000):
            with filled(folder, leave):
                harness.until(lambda: "W_DISK" in harness.warnings())
                [warning] = [w for w in harness.context.warnings() if w.code == "W_DISK"]
                expect("a cycle needs 16 MB" in warning.message, warning.message, harness)
                expect(harness.version == 0, "a cycle was published on a full disk", harness)
        harness.until_version(1)
        expect("W_DISK" not in harness.warnings(), "the warning stayed", harness)
    check_restarted(folder)


def full_within(folder: Path) -> None:
    """Fill the disk during training, so that writes of the publish or of the ledger fail at different points."""
    disk_space.MIN_FREE_BYTES, disk_space._COPIES = 0, 0
    with InstantHarness(folder) as harness:
        harness.until_version(0)
        noticed = 0
        for number, leave in enumerate(range(0, 60_000, 6_000), start=1):
            stack = contextlib.ExitStack()

            def answer(job, leave=leave, stack=stack):
                events = train(job)
                stack.enter_context(filled(folder, leave))
                return events

            harness.launcher.answer = answer
            harness.write_rollouts(10 * number, 10 * number + 1)
            noticed += run_through_fault(harness, lambda stack=stack: stack, passes=60)
            harness.launcher.answer = train
        expect(noticed >= 3, f"the daemon warned {noticed} times only", harness)
    check_restarted(folder)


def read_only(folder: Path) -> None:
    """Check that the daemon does not start on a read-only disk and changes nothing."""

    @contextlib.contextmanager
    def remounted() -> Iterator[None]:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)

    with InstantHarness(folder) as harness:
        harness.until_version(0)
    (folder / "Saved" / "Training" / "Exports" / "rollout_1.json").write_bytes(b"{}")
    before = fingerprints_of(folder / "Saved" / "Training" / "Exports")
    with remounted():  # would fail if a file on the disk were open for writing
        code = main(["--project", str(folder), "--no-dashboard", "--once"])
    assert code == 2, code
    assert not [v for v in violations(folder, before=before) if v.invariant in AT_ANY_TIME]
    check_restarted(folder)


def limited(folder: Path) -> None:
    """Limit the size of files, like a quota."""

    @contextlib.contextmanager
    def limit(size: int) -> Iterator[None]:
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)

    with InstantHarness(folder) as harness:
        harness.until_version(0)

        def unlimited(job):
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # the trainer is another process
            events = train(job)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return events

        harness.launcher.answer = unlimited
        for number, size in enumerate((0, 100, 1000, 4096, 20_000, harness.paths.ledger.stat().st_size), start=1):
            harness.write_rollouts(10 * number, 10 * number + 1)
            noticed = run_through_fault(harness, lambda size=size: limit(size))
            expect(noticed or size > 4096, f"a limit of {size} was not noticed", harness)
    check_restarted(folder)


def no_descriptors(folder: Path) -> None:
    """Leave no file descriptors, or only a few."""

    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    @contextlib.contextmanager
    def few(free: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.dup(0) for _ in range(40)]  # so that the limit is higher than every open descriptor
        highest = max(taken)
        for descriptor in taken[:free]:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken[free:]:
                os.close(descriptor)

    with InstantHarness(folder) as harness:
        harness.until_version(0)
        before = count()
        for free in range(6):
            harness.write_rollouts(10 + 10 * free, 11 + 10 * free)
            noticed = run_through_fault(harness, lambda free=free: few(free))
            expect(noticed or free > 0, f"{free} descriptors were enough", harness)
        expect(count() <= before, f"{count()} descriptors instead of {before}", harness)
    check_restarted(folder)


SCENARIOS = {f.__name__: f for f in (full_before, full_within, read_only, limited, no_descriptors)}

if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if sys.argv[1] in {"full_before", "full_within", "read_only"}:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)], check=True)
    SCENARIOS[sys.argv[1]](folder)
    print("passed")
