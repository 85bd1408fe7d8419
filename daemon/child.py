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

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """End this process when standard input ends or, on Linux, when the parent dies."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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
