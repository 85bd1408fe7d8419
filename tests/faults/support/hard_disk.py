"""A daemon on a disk that is really full, read-only, limited in size or out of file descriptors.

Usage: hard_disk.py SCENARIO FOLDER; the disk scenarios run as root of a user namespace of their own, where FOLDER
becomes a small tmpfs. Says `held` where all promises held.
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
from daemon.training import disk_space as room
from tests.faults.support.site import Site, train, violations

AT_ONCE = {Invariant.ENGINE_VIEW, Invariant.COUNTED_ONCE, Invariant.NOTHING_LOST, Invariant.LEDGER}


def expect(condition: object, what: str, site: Site) -> None:
    if not condition:
        raise AssertionError(what + "; the log:\n" + "\n".join(site.log.lines[-20:]))


def hold_out(site: Site, trouble: Callable[[], contextlib.AbstractContextManager[object]], *, passes: int = 12) -> bool:
    """Two rollouts lie there; while there is trouble nothing breaks, after it the cycle is published by itself.

    Tells whether the trouble was noticed.
    """
    before, said = site.version, len(site.log.lines)
    prints = fingerprints_of(site.layout.exports)
    with trouble():
        for _ in range(passes):
            site.tick()
    broken = [v for v in violations(site.layout.project, before=prints) if v.invariant in AT_ONCE]
    expect(not broken, f"while there was trouble: {broken}", site)
    site.until(lambda: site.version > before and not site.runner.busy)
    site.until(lambda: not site.warnings())
    published = [p.policy_version for p in site.ledger.publications()]
    expect(published == list(range(len(published))), f"published {published}", site)
    return any(line.startswith("WARNING") for line in site.log.lines[said:])


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
    """There is no room for a cycle: none begins, and it says how much is missing."""
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
    """It fills up while the trainer works: the publish or the ledger is refused, at every place that room runs out."""
    room.LEAST_BYTES, room._SHARE = 0, 0
    with Site(folder) as site:
        site.until_version(0)
        noticed = 0
        for number, leave in enumerate(range(0, 60_000, 6_000), start=1):
            stack = contextlib.ExitStack()

            def answer(job, leave=leave, stack=stack):
                said = train(job)
                stack.enter_context(filled(folder, leave))
                return said

            site.launcher.answer = answer
            site.drop(10 * number, 10 * number + 1)
            noticed += hold_out(site, lambda stack=stack: stack, passes=60)
            site.launcher.answer = train
        expect(noticed >= 3, f"{noticed} times there was too little room", site)
    nothing_left(folder)


def read_only(folder: Path) -> None:
    """A start on a read-only disk is refused in a line, and changes nothing."""

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
    with remounted():  # the kernel turns no disk read-only while a file on it is open for writing
        code = main(["--project", str(folder), "--no-dashboard", "--once"])
    assert code == 2, code
    assert not [v for v in violations(folder, before=before) if v.invariant in AT_ONCE]
    nothing_left(folder)


def limited(folder: Path) -> None:
    """No file may grow beyond a limit (a quota looks alike)."""

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
            said = train(job)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return said

        site.launcher.answer = unlimited
        for number, size in enumerate((0, 100, 1000, 4096, 20_000, site.layout.ledger.stat().st_size), start=1):
            site.drop(10 * number, 10 * number + 1)
            noticed = hold_out(site, lambda size=size: limit(size))
            expect(noticed or size > 4096, f"a limit of {size} was not noticed", site)
    nothing_left(folder)


def no_descriptors(folder: Path) -> None:
    """There are no file descriptors left, or just a few."""

    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    @contextlib.contextmanager
    def few(spare: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.dup(0) for _ in range(40)]  # so that the limit lies above every open one
        highest = max(taken)
        for descriptor in taken[:spare]:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken[spare:]:
                os.close(descriptor)

    with Site(folder) as site:
        site.until_version(0)
        before = count()
        for spare in range(6):
            site.drop(10 + 10 * spare, 11 + 10 * spare)
            noticed = hold_out(site, lambda spare=spare: few(spare))
            expect(noticed or spare > 0, f"{spare} descriptors were enough", site)
        expect(count() <= before, f"{count()} descriptors instead of {before}", site)
    nothing_left(folder)


SCENARIOS = {f.__name__: f for f in (full_before, full_within, read_only, limited, no_descriptors)}

if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] in {"full_before", "full_within", "read_only"}:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(where)], check=True)
    SCENARIOS[sys.argv[1]](where)
    print("held")
