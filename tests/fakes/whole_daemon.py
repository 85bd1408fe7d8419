"""The real daemon with the fake trainer as a program, for fast cycles. Usage: whole_daemon.py ARGUMENT ...

The variable FAKE_TRAINER is the trainer's mode.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from daemon import app
from daemon.cli import main
from daemon.process.child import Child, ChildSpec

FAKE = Path(__file__).with_name("trainer.py")


class Launcher(app.ChildLauncher):
    """Starts the fake trainer instead of the real one."""

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        if sends_events:
            mode = os.environ.get("FAKE_TRAINER", "")
            spec = dataclasses.replace(spec, arguments=(sys.executable, str(FAKE), mode))
        return super().start(spec, sends_events=sends_events)


def run(arguments: list[str]) -> int:
    app.ChildLauncher = Launcher
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
