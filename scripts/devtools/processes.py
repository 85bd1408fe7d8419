"""Run programs: pass on their output, share the console and its signals, or run several at once."""

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
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


def stream(
    argv: Sequence[str],
    cwd: Path | None,
    on_line: Callable[[str], None],
    on_idle: Callable[[], None],
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a program, pass its output lines to `on_line`, and call `on_idle` a few times per second."""
    if env is None:
        env = dict(os.environ, PIP_USER="0", PYTHONUTF8="1", PYTHONUNBUFFERED="1")
    pipe = subprocess.PIPE
    child = subprocess.Popen(list(argv), cwd=cwd, env=dict(env), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
    assert child.stdin is not None
    child.stdin.close()  # a pipe and not /dev/null, because Wine needs one
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
    except BaseException:  # after Ctrl-C the program must not continue to write
        child.terminate()
        reader.join(timeout=10)
        raise


def run(argv: list[str], cwd: Path) -> int:
    """Run a program to its end and return its exit code. Signals are passed on to it."""
    children: list[subprocess.Popen[bytes]] = []
    with signals_passed_on(children):
        children.append(subprocess.Popen(argv, cwd=str(cwd)))
        code = children[0].wait()
    return shell_code(code)


def run_together(argvs: list[list[str]], logs: list[Path], cwd: Path) -> list[int]:
    """Run programs at the same time, each with its output in a file, and return their exit codes."""
    children: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack, signals_passed_on(children):
        for argv, log in zip(argvs, logs, strict=True):
            out = stack.enter_context(log.open("wb"))
            children.append(
                subprocess.Popen(argv, cwd=str(cwd), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            )
        codes = [child.wait() for child in children]
    return [shell_code(code) for code in codes]


@contextlib.contextmanager
def signals_passed_on(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass Ctrl-C and SIGTERM on to the children in this list, instead of ending."""

    def pass_on(signum: int, frame: Any) -> None:
        # A terminal also sends Ctrl-C to the child. A second signal could make the child end at once.
        from_terminal = signum == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()
        if os.name == "posix" and not from_terminal:
            for child in children:
                child.send_signal(signum)  # does nothing if the child has ended

    old = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def shell_code(code: int) -> int:
    """Return an exit code as a shell does: 128 + n if signal n killed the program."""
    return 128 - code if code < 0 else code
