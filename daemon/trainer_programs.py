"""The trainer's commands under `hotlap`: this process is replaced by the trainer, which the daemon never imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from schemas.program.children import child_environment, module_command
from schemas.program.parser import usage_name


def run_trainer(arguments: Sequence[str]) -> int:
    """Run `python -m trainer ARGUMENTS` in the place of this process; on Windows, as its child."""
    from_hotlap = ("--from-hotlap",) if usage_name("daemon") == "hotlap" else ()
    command = module_command("trainer", *from_hotlap, *arguments)
    environment = child_environment()
    if sys.platform != "win32":
        os.execve(command[0], command, environment)
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the console has sent it to the child as well, which ends in its own way
            continue
