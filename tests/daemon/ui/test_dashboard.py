"""The dashboard's thread, with terminals that hang, close or change their size."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.ui import dashboard as dashboard_module
from daemon.ui.dashboard import Dashboard, Painter, wants_dashboard
from daemon.ui.terminal import ENTER, LEAVE
from tests.daemon.ui.snapshots import (
    IDLE,
    NOW_S,
    ROOT,
    status,
    until,
)
from tests.platforms import needs_posix


def test_only_changed_lines_are_painted():
    painter = Painter("utf-8")
    assert painter.changes(IDLE, 80, 24).count("\x1b[H") == 1
    assert painter.changes(IDLE, 80, 24) == ""
    assert painter.changes(replace(IDLE, now_s=NOW_S + 1), 80, 24) == "", "no second is shown"
    changes = painter.changes(replace(IDLE, status=status(rollouts_pending=5, epochs=IDLE.status.epochs)), 80, 24)
    assert re.findall(r"\x1b\[(\d+);1H", changes) == ["3"]
    assert len(re.findall(r"\x1b\[\d+;1H", painter.changes(IDLE, 100, 30))) == 30
    painter.repaint_all()
    assert len(re.findall(r"\x1b\[\d+;1H", painter.changes(IDLE, 100, 30))) == 30


pty = needs_posix("pseudo-terminals")


@pytest.fixture
def any_stream(monkeypatch):
    """Draw on streams that are not consoles. Windows' `prepare_console` refuses these."""
    monkeypatch.setattr(dashboard_module, "prepare_console", lambda stream: contextlib.nullcontext())


@contextlib.contextmanager
def terminal(columns=80, rows=24):
    """Open a pseudo-terminal: the stream for a program, and the file descriptor of the other end."""
    import termios
    import tty

    master, other_end = os.openpty()
    tty.setraw(other_end)
    termios.tcsetwinsize(other_end, (rows, columns))
    with open(other_end, "w", encoding="utf-8", closefd=False) as stream:
        try:
            yield stream, master
        finally:
            with contextlib.suppress(OSError):
                os.close(master)
            os.close(other_end)


class Reader:
    """Reads what was written to a terminal."""

    def __init__(self, fd):
        self._fd = fd
        self._seen = b""

    def seen(self):
        while select.select([self._fd], [], [], 0)[0]:
            self._seen += os.read(self._fd, 65536)
        return self._seen.decode("utf-8", "replace")


@pty
def test_a_terminal_shows_snapshots_and_is_restored():
    with terminal() as (stream, fd):
        reader, dashboard = Reader(fd), Dashboard(stream)
        assert dashboard.alive
        assert reader.seen() == "", "nothing before the first snapshot"
        dashboard.show(IDLE)
        until(lambda: "RacingGame" in reader.seen())
        assert reader.seen().startswith(ENTER)
        dashboard.show(replace(IDLE, project="AnotherGame"))
        until(lambda: "AnotherGame" in reader.seen())
        dashboard.stop()
        assert reader.seen().endswith(LEAVE)
        assert not dashboard.alive
        assert dashboard.failure == ""
        before = reader.seen()
        dashboard.show(IDLE)
        dashboard.stop()
        assert reader.seen() == before, "nothing is shown after stop"


@pty
def test_another_size_repaints_the_screen():
    import termios

    with terminal() as (stream, fd):
        reader, dashboard = Reader(fd), Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: "\x1b[24;1H" in reader.seen())
        termios.tcsetwinsize(fd, (40, 120))
        until(lambda: "\x1b[40;1H" in reader.seen())
        dashboard.stop()


@pty
def test_a_terminal_that_hangs_does_not_block_the_daemon():
    with terminal(200, 60) as (stream, _unread):
        dashboard = Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: not select.select([], [stream.fileno()], [], 0)[1])  # the dashboard now hangs in a write
        started = time.monotonic()
        for k in range(1000):
            dashboard.show(replace(IDLE, now_s=NOW_S + 60 * k))
        assert time.monotonic() - started < 1.0
        started = time.monotonic()
        dashboard.stop()
        assert time.monotonic() - started < 2.0
        assert not dashboard.alive


HANG = """
import sys, time
from daemon.ui.dashboard import Dashboard
from tests.daemon.ui.test_dashboard import IDLE
import select
dashboard = Dashboard()
dashboard.show(IDLE)
while select.select([], [sys.stdout.fileno()], [], 0)[1]:
    time.sleep(0.01)
dashboard.stop()
sys.exit(7)
"""


@pty
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_terminal_hangs_still_ends(unbuffered):
    """Check that the interpreter can exit: the blocked thread must not have locked stdout's buffer."""
    with terminal(200, 60) as (stream, _unread):
        child = subprocess.Popen(
            [sys.executable, "-c", HANG],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, errors = child.communicate(timeout=30)
        finally:
            child.kill()
        assert (child.returncode, errors) == (7, "")


@pty
def test_a_terminal_that_closes_ends_only_the_dashboard():
    with terminal() as (stream, fd):
        reader, dashboard = Reader(fd), Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: "RacingGame" in reader.seen())
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), fd)  # the last descriptor of the terminal's other end is gone
        dashboard.show(replace(IDLE, project="AnotherGame"))
        until(lambda: not dashboard.alive)
        assert "OSError" in dashboard.failure
        dashboard.show(IDLE)
        dashboard.stop()


def test_a_closed_pipe_ends_only_the_dashboard(any_stream):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        dashboard = Dashboard(stream)
        dashboard.show(IDLE)
        until(lambda: not dashboard.alive)
        assert re.match("BrokenPipeError|OSError", dashboard.failure), "Windows has no error of its own for it"
        dashboard.stop()


def test_an_error_while_drawing_ends_only_the_dashboard_and_restores_the_terminal(monkeypatch, any_stream):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(dashboard_module, "lines", broken)
    stream = io.StringIO()
    dashboard = Dashboard(stream)
    dashboard.show(IDLE)
    until(lambda: not dashboard.alive)
    assert dashboard.failure == "ZeroDivisionError: a bug"
    assert stream.getvalue() == ENTER + LEAVE


def test_a_closed_stream_ends_only_the_dashboard(any_stream):
    stream = io.StringIO()
    stream.close()
    dashboard = Dashboard(stream)
    dashboard.show(IDLE)
    until(lambda: not dashboard.alive)


def test_no_more_than_four_pictures_a_second(any_stream):
    stream = io.StringIO()
    dashboard = Dashboard(stream)
    started = time.monotonic()
    for k in range(200):
        dashboard.show(replace(IDLE, project=f"Game {k}"))
        threading.Event().wait(0.003)
    dashboard.stop()
    assert 1 <= stream.getvalue().count("\x1b[1;1H") <= 2 + 4 * (time.monotonic() - started)


@pty
def test_only_capable_terminals_get_a_dashboard(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as (stream, _):
        assert wants_dashboard(stream)
        for dumb in ("dumb", "DUMB", "unknown"):
            monkeypatch.setenv("TERM", dumb)
            assert not wants_dashboard(stream)
        monkeypatch.delenv("TERM")
        assert not wants_dashboard(stream)
    assert not wants_dashboard(stream), "closed"


def test_a_file_or_no_stream_gets_no_dashboard(monkeypatch, tmp_path):
    monkeypatch.setenv("TERM", "xterm")
    assert not wants_dashboard(None)
    assert not wants_dashboard(io.StringIO())
    with (tmp_path / "out.txt").open("w", encoding="utf-8") as file:
        assert not wants_dashboard(file)
