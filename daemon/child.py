"""Runs a user's training script as a child that never outlives the daemon. Standard library only, started by path.

Usage: child.py SCRIPT [ARG ...]; standard input is the lifeline: when it ends, so does this process group.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from pathlib import Path


def end_with_parent() -> None:
    """End this process and its group when standard input ends, which it does when the daemon is gone.

    No parent-death signal here: it would end this process before it could end its workers.
    """
    threading.Thread(target=_wait_for_the_end, name="lifeline", daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1024):
        pass
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Run the script as `python SCRIPT ARG ...` would."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(script).resolve().parent))
    end_with_parent()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
