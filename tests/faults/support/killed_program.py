"""A program whose children are killed: it forks a child for each line on stdin, with all modules already imported.

`publish FOLDER` finishes the publish that is pending there; it stops itself and waits for SIGCONT.
`cycle FOLDER disk N` and `cycle FOLDER ledger N` run a daemon until version 1. It kills itself before its operation
number N (0: never). Prints the child's pid and, when it has ended, its exit code (as `os.waitstatus_to_exitcode`) and
its last operation.
"""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # other threads do not exist after a fork

from daemon.ledger.cycle import Phase
from daemon.ledger.ledger import Ledger
from daemon.runtime.clock import Clock
from daemon.runtime.context import Context
from daemon.training.runner import Runner
from schemas.settings.models import Settings
from schemas.storage.files import Disk
from schemas.storage.layout import ProjectPaths
from tests.faults.support.disk import TestDisk
from tests.faults.support.harness import InstantHarness, InstantLauncher
from tests.helpers import ListLog


class SequentialDisk(Disk):
    """A disk that syncs files one after the other, because strace counts the calls of each thread separately."""

    def fsync_all(self, paths):
        for path in paths:
            self.fsync(path)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def publish(folder: Path) -> None:
    """Finish a pending publish as the daemon does, and nothing else."""
    paths = ProjectPaths(folder)
    context = Context(paths, Settings(), Ledger.open(paths.ledger), ListLog(), Clock(), lambda: None, SequentialDisk())
    runner = Runner(context, InstantLauncher(), attempts=1)
    runner.recover()
    os.kill(os.getpid(), signal.SIGSTOP)
    runner.tick()
    assert runner.cycle is not None
    os._exit(0 if runner.cycle.phase is Phase.PUBLISHED else 3)


def cycle(folder: Path, what: str, at: int, report: int) -> None:
    """Run a cycle until operation number `at`. Write the last operation to the pipe `report` before the kill."""

    def before(number: int, name: object) -> None:
        if number == at:
            os.write(report, f"{number} {name}".encode()[:200])
            die()

    disk = TestDisk()
    if what == "disk":
        disk.before = before
    else:
        kill_at_statement(before)
    with InstantHarness(folder, disk=disk) as harness:
        harness.write_rollouts(1, 2)
        harness.until_version(1)
    count = len(disk.ops) if what == "disk" else STATEMENTS[0]
    os.write(report, f"{count} done".encode())
    os._exit(0)


STATEMENTS = [0]


def kill_at_statement(before) -> None:
    class CountingConnection(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.set_trace_callback(self._count)

        def _count(self, sql: str) -> None:
            if not sql.lstrip().startswith(("SELECT", "PRAGMA")):
                STATEMENTS[0] += 1
                before(STATEMENTS[0], " ".join(sql.split())[:60])

    sqlite3.connect = functools.partial(sqlite3.connect, factory=CountingConnection)


def serve() -> None:
    for line in sys.stdin:
        words = line.split("\t")
        read_end, report = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if words[0] == "publish":
                    publish(Path(words[1].strip()))
                else:
                    cycle(Path(words[1]), words[2], int(words[3]), report)
            finally:
                os._exit(4)
        os.close(report)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read_end, "rb") as stream:
            print(os.waitstatus_to_exitcode(status), stream.read().decode(), flush=True)


if __name__ == "__main__":
    serve()
