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
from tests.faults.support.site import Site, train, violations

AT_ONCE = {Invariant.ENGINE_VIEW, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST, Invariant.LEDGER}


def expect(condition: object, what: str, site: Site) -> None:
    if not condition:
        raise AssertionError(what + "; the log:\n" + "\n".join(site.log.lines[-20:]))


def withstand(site: Site, fault: Callable[[], contextlib.AbstractContextManager[object]], *, passes: int = 12) -> bool:
    """Run a daemon with two new rollouts during a `fault`, and after it until it has published.

    Fails if an invariant is violated. Returns whether the daemon warned about the fault.
    """
    before, lines = site.version, len(site.log.lines)
    prints = fingerprints_of(site.layout.exports)
    with fault():
        for _ in range(passes):
            site.tick()
    broken = [v for v in violations(site.layout.project, before=prints) if v.invariant in AT_ONCE]
    expect(not broken, f"during the fault: {broken}", site)
    site.until(lambda: site.version > before and not site.runner.busy)
    site.until(lambda: not site.warnings())
    published = [p.policy_version for p in site.ledger.publications()]
    expect(published == list(range(len(published))), f"published {published}", site)
    return any(line.startswith("WARNING") for line in site.log.lines[lines:])


def nothing_left(folder: Path) -> None:
    with Site(folder) as site:
        site.tick()
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
    """Start no cycle if there is too little room for it, and warn how much is missing."""
    with Site(folder) as site:
        site.until_version(0)
        site.drop(1, 2)
        site.until(lambda: site.ledger.pending_count() == 2 or site.runner.busy)
        for leave in (0, 100_000, 5_000_000):
            with filled(folder, leave):
                site.until(lambda: "W_DISK" in site.warnings())
                [warning] = [w for w in site.project.warnings() if w.code == "W_DISK"]
                expect("a cycle needs 16 MB" in warning.message, warning.message, site)
                expect(site.version == 0, "a cycle was published on a full disk", site)
        site.until_version(1)
        expect("W_DISK" not in site.warnings(), "the warning stayed", site)
    nothing_left(folder)


def full_within(folder: Path) -> None:
    """Fill the disk during training, so that the publish or the ledger is refused at different points."""
    disk_space.MIN_FREE_BYTES, disk_space._COPIES = 0, 0
    with Site(folder) as site:
        site.until_version(0)
        noticed = 0
        for number, leave in enumerate(range(0, 60_000, 6_000), start=1):
            stack = contextlib.ExitStack()

            def answer(job, leave=leave, stack=stack):
                events = train(job)
                stack.enter_context(filled(folder, leave))
                return events

            site.launcher.answer = answer
            site.drop(10 * number, 10 * number + 1)
            noticed += withstand(site, lambda stack=stack: stack, passes=60)
            site.launcher.answer = train
        expect(noticed >= 3, f"the daemon warned {noticed} times only", site)
    nothing_left(folder)


def read_only(folder: Path) -> None:
    """Refuse to start on a read-only disk, and change nothing."""

    @contextlib.contextmanager
    def remounted() -> Iterator[None]:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)

    with Site(folder) as site:
        site.until_version(0)
    (folder / "Saved" / "Training" / "Exports" / "rollout_1.json").write_bytes(b"{}")
    before = fingerprints_of(folder / "Saved" / "Training" / "Exports")
    with remounted():  # impossible while a file on it is open for writing
        code = main(["--project", str(folder), "--no-dashboard", "--once"])
    assert code == 2, code
    assert not [v for v in violations(folder, before=before) if v.invariant in AT_ONCE]
    nothing_left(folder)


def limited(folder: Path) -> None:
    """Limit the size of files, as a quota does."""

    @contextlib.contextmanager
    def limit(size: int) -> Iterator[None]:
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)

    with Site(folder) as site:
        site.until_version(0)

        def unlimited(job):
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # the trainer is another process
            events = train(job)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return events

        site.launcher.answer = unlimited
        for number, size in enumerate((0, 100, 1000, 4096, 20_000, site.layout.ledger.stat().st_size), start=1):
            site.drop(10 * number, 10 * number + 1)
            noticed = withstand(site, lambda size=size: limit(size))
            expect(noticed or size > 4096, f"a limit of {size} was not noticed", site)
    nothing_left(folder)


def no_descriptors(folder: Path) -> None:
    """Leave no or only a few file descriptors."""

    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    @contextlib.contextmanager
    def few(free: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.dup(0) for _ in range(40)]  # so that the limit is above every open one
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

    with Site(folder) as site:
        site.until_version(0)
        before = count()
        for free in range(6):
            site.drop(10 + 10 * free, 11 + 10 * free)
            noticed = withstand(site, lambda free=free: few(free))
            expect(noticed or free > 0, f"{free} descriptors were enough", site)
        expect(count() <= before, f"{count()} descriptors instead of {before}", site)
    nothing_left(folder)


SCENARIOS = {f.__name__: f for f in (full_before, full_within, read_only, limited, no_descriptors)}

if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if sys.argv[1] in {"full_before", "full_within", "read_only"}:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)], check=True)
    SCENARIOS[sys.argv[1]](folder)
    print("passed")
