"""The trainer's commands of `hotlap`: the trainer replaces this process, because the daemon never imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from schemas.program.children import child_environment, module_command
from schemas.program.parser import usage_name


def run_trainer(arguments: Sequence[str]) -> int:
    """Replace this process by `python -m trainer ARGUMENTS`; on Windows, run it as a child."""
    from_hotlap = ("--from-hotlap",) if usage_name("daemon") == "hotlap" else ()
    command = module_command("trainer", *from_hotlap, *arguments)
    environment = child_environment()
    if sys.platform != "win32":
        os.execve(command[0], command, environment)
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the console has also sent it to the child, which ends by itself
            continue
