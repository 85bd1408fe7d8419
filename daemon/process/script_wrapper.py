"""Runs a user's training script as a child that never outlives the daemon. Standard library only, started by path.

Usage: script_wrapper.py SCRIPT [ARG ...]; standard input is the lifeline: when it ends, so does this process group.
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

    No parent-death signal here: it would end this process before it could end its workers. On POSIX the waiting is
    done by a process of its own, which a script that hangs inside a library, or is stopped, cannot hold up.
    """
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        if os.fork() == 0:
            _guard(lifeline, nothing)
        os.close(lifeline)
    else:
        threading.Thread(target=_wait_for_the_end, args=(lifeline,), name="lifeline", daemon=True).start()
    os.close(nothing)


def _guard(lifeline: int, nothing: int) -> None:
    """Never returns."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    while os.read(lifeline, 1024):
        pass
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _wait_for_the_end(lifeline: int) -> None:
    while os.read(lifeline, 1024):
        pass
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
