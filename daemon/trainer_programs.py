"""The trainer's commands of `hotlap`: the trainer replaces this process, because the daemon never imports it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from daemon.errors import DaemonError, Exit
from schemas.process.ending import end_in_order
from schemas.process.exit_codes import CONTROL_C, exit_words, is_crash, remedy, system_code, unsigned
from schemas.process.group import WindowsJob
from schemas.program.children import child_environment, module_command
from schemas.program.parser import usage_name
from schemas.text import ascii_safe


def run_trainer(arguments: Sequence[str]) -> int:
    """Replace this process by `python -m trainer ARGUMENTS`; on Windows, run it as a child."""
    from_hotlap = ("--from-hotlap",) if usage_name("daemon") == "hotlap" else ()
    command = module_command("trainer", *from_hotlap, *arguments)
    environment = child_environment()
    if sys.platform != "win32":
        os.execve(command[0], command, environment)
    signal.signal(signal.SIGINT, _leave_to_child)
    with end_in_order():
        return _result(_run_child(command, environment))


def _leave_to_child(*_: object) -> None:
    """Do nothing: the console has sent Ctrl-C to the child as well, and this process waits for its end."""


def _run_child(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a program that shares the console, and ends with this process; return its exit code."""
    job = WindowsJob(shares_ctrl_c=True)
    # A child without a window of its own inherits the standard streams only if they are named.
    child = subprocess.Popen(command, env=environment, stdin=0, stdout=1, stderr=2, **job.options)
    try:
        job.assign(child.pid)
        return child.wait()
    finally:
        job.close()


def _result(exit_code: int) -> int:
    if unsigned(exit_code) == CONTROL_C:  # before the program could handle it
        return Exit.STOPPED
    if is_crash(exit_code):
        ending = f"the trainer ended with {exit_words(exit_code)}"
        error = DaemonError(ending, hint=remedy(exit_code) or "try again", code="E_CRASH")
        sys.stderr.write(f"hotlap: {ascii_safe(error.line())}\n")
    return system_code(exit_code)
