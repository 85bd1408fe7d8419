"""A console that stops, closes or does not exist never delays a cycle: row 68. The trainer is the fake one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import violations
from tests.helpers import write_rollout

if sys.platform == "win32":
    pytest.skip("POSIX: pseudo-terminals and signals", allow_module_level=True)

import fcntl
import termios

DAEMON = Path(__file__).parents[2] / "fakes" / "whole_daemon.py"
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
pytestmark = [pytest.mark.fault(68), pytest.mark.slow]


class Running:
    """A running daemon, and the console that it writes to."""

    def __init__(self, folder: Path, *, master: int | None, process: subprocess.Popen) -> None:
        self.folder = folder
        self.paths = ProjectPaths(folder)
        self.process = process
        self.master = master
        self.output = bytearray()
        self.is_read = threading.Event()
        self.is_read.set()
        self.is_gone = threading.Event()
        self.reader: threading.Thread | None = None

    def drain(self) -> None:
        """Read the console as a terminal does, from now on."""
        descriptor = self.master if self.master is not None else self.process.stdout.fileno()

        def read() -> None:
            with contextlib.suppress(OSError):
                while not self.is_gone.is_set():
                    if not select.select([descriptor], [], [], 0.05)[0]:
                        continue
                    if not (data := os.read(descriptor, 4096)):
                        return
                    self.output += data
                    self.is_read.wait()

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()

    def hang_up(self) -> None:
        """Close the terminal after its reader has ended: the next file that is opened gets its descriptor."""
        self.is_gone.set()
        self.is_read.set()
        if self.reader is not None:
            self.reader.join()
        if self.master is not None:
            os.close(self.master)
            self.master = None

    def status(self) -> dict:
        try:
            return orjson.loads(self.paths.status.read_bytes())
        except FileNotFoundError:
            return {}

    def until(self, condition: Callable[[], object], timeout_s: float = 15.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"the daemon is gone: {bytes(self.output)!r}"
            assert time.monotonic() < end, "the condition did not become true in time"
            time.sleep(0.02)

    def run_cycle(self, version: int = 1) -> None:
        """Write two rollouts and wait until their model is published."""
        for i in (1, 2):
            write_rollout(self.paths.exports, 10 * version + i)
        self.until(lambda: self.status().get("policy_version") == version)

    def stop(self) -> int:
        """Ask the daemon to end and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    """Return a function that starts daemons on ptys or pipes; end them all afterwards."""
    started: list[Running] = []

    def make(
        *, pty: bool = True, size: tuple[int, int] = (80, 24), own: bool = False, name: str = "p", **environment: str
    ) -> Running:
        folder = tmp_path / name
        folder.mkdir()
        ask = [str(DAEMON), f"--project={folder}", "--after-n-rollouts", "2"]
        command = [sys.executable, *(["-c", OWN_TERMINAL, *ask] if own else ask)]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
        env = {**variables, "TERM": "xterm", "HOTLAP_DAEMON__WARM_TRAINER": "false", **environment}
        master = slave = None
        if pty:
            master, slave = os.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        console = subprocess.PIPE if slave is None else slave
        process = subprocess.Popen(
            command, stdin=slave, stdout=console, stderr=slave or subprocess.STDOUT, env=env, start_new_session=True
        )
        if slave is not None:
            os.close(slave)
        started.append(Running(folder, master=master, process=process))
        return started[-1]

    yield make
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.process.wait()
        terminal.hang_up()
        if terminal.process.stdout is not None:
            terminal.process.stdout.close()


def ready(terminal: Running) -> Running:
    terminal.until(lambda: terminal.status().get("best_model_path") and terminal.status()["state"] == "idle")
    return terminal


def test_a_cycle_ends_if_the_terminal_is_never_read(start):
    terminal = ready(start())
    terminal.run_cycle()
    assert terminal.stop() == 0
    assert violations(terminal.folder) == ()


def test_a_terminal_that_stops_and_continues(start):
    """Check Ctrl-S, or a click into a Windows console."""
    terminal = start()
    terminal.drain()
    ready(terminal)
    terminal.is_read.clear()
    terminal.run_cycle()
    before = len(terminal.output)
    terminal.is_read.set()
    terminal.run_cycle(2)
    terminal.until(lambda: len(terminal.output) > before, 10)
    assert terminal.stop() == 0


def test_if_the_terminal_closes_only_the_log_file_is_written(start):
    terminal = start()
    terminal.drain()
    ready(terminal)
    terminal.hang_up()
    terminal.run_cycle()
    terminal.until(lambda: b"the dashboard was switched off" in terminal.paths.daemon_log.read_bytes())
    assert terminal.stop() == 0


def test_closing_its_own_terminal_ends_the_daemon_in_order(start):
    """Check that SIGHUP ends the daemon like Ctrl-C."""
    terminal = start(own=True)
    terminal.drain()
    ready(terminal)
    terminal.hang_up()
    assert terminal.process.wait(10) == 0
    assert violations(terminal.folder) == ()


def test_terminals_of_unusual_sizes(start):
    terminals = [start(size=size, name=str(size)) for size in [(1, 1), (7, 3), (0, 0), (1000, 2)]]
    for terminal in terminals:
        terminal.drain()
    for terminal in terminals:
        ready(terminal).run_cycle()
    for terminal in terminals:
        assert terminal.stop() == 0
        assert b"Traceback" not in terminal.output


def test_a_pipe_gets_plain_ascii_lines(start):
    terminal = start(pty=False, name="p \u00fc\u4e2d")
    terminal.drain()
    ready(terminal).run_cycle()
    assert terminal.stop() == 0
    terminal.process.stdout.close()
    assert b"[4/5] published: version 1" in terminal.output
    assert b"\x1b" not in terminal.output
    assert bytes(terminal.output).isascii()


def test_a_pipe_that_is_not_read_and_then_closed(start):
    terminal = ready(start(pty=False))
    terminal.process.stdout.close()
    terminal.run_cycle()
    assert terminal.stop() == 0


def test_a_daemon_without_standard_streams(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    command = f'"{sys.executable}" "{DAEMON}" --once "--project={folder}" <&- >&- 2>&-'
    paths = ProjectPaths(folder)
    paths.make()
    write_rollout(paths.exports, 1)
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == 0
    assert violations(folder) == ()


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}],
    ids=["TERM=dumb", "LC_ALL=C"],
)
def test_a_terminal_without_colours_or_unicode(start, environment):
    terminal = start(name="p \u00fc\u4e2d", **environment)
    terminal.drain()
    ready(terminal).run_cycle()
    assert terminal.stop() == 0
    assert b"Traceback" not in terminal.output
    assert bytes(terminal.output).isascii()
    assert (b"\x1b" in terminal.output) is ("TERM" not in environment)
