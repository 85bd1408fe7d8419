"""Runs programs: with their output passed to a function, or on the same console with the same signals."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def stream(argv: list[str], cwd: Path, on_line: Callable[[str], None], on_idle: Callable[[], None]) -> int:
    """Run a program, pass its output lines to `on_line`, and call `on_idle` a few times per second."""
    env = dict(os.environ, PIP_USER="0", PYTHONUTF8="1", PYTHONUNBUFFERED="1")
    child = subprocess.Popen(argv, cwd=str(cwd), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        with child:  # closes the pipe at the end
            for line in child.stdout or ():
                lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while reader.is_alive() or not lines.empty():
            on_idle()
            with contextlib.suppress(queue.Empty):
                on_line(lines.get(timeout=0.25).decode("utf-8", "replace").rstrip())
        return child.wait()
    except BaseException:  # after Ctrl-C the program must not continue to write to .venv
        child.terminate()
        reader.join(timeout=10)
        raise


def run(argv: list[str], cwd: Path) -> int:
    """Run a program to its end and return its exit code. Signals are passed on to it."""
    child: list[subprocess.Popen[bytes]] = []

    def pass_on(signum: int, frame: Any) -> None:
        # A terminal also sends Ctrl-C to the child. A second signal could make the child end at once.
        from_terminal = signum == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()
        if child and os.name == "posix" and not from_terminal:
            child[0].send_signal(signum)

    old = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child.append(subprocess.Popen(argv, cwd=str(cwd)))
        code = child[0].wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code  # like shells: 128 + n if signal n killed it
