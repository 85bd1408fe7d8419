"""Windows: a console of its own, with one program in it. Usage: console.py OUTPUT PROGRAM ARGUMENT ...

Start it with CREATE_NO_WINDOW. It prints the program's pid. Each line on standard input is a Ctrl-C for all processes
in the console. At the end of the program it prints the exit code.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
from pathlib import Path


def send_events() -> None:
    kernel32 = ctypes.WinDLL("kernel32")
    for _ in sys.stdin:
        kernel32.GenerateConsoleCtrlEvent(0, 0)


def main(output: str, *program: str) -> None:
    with Path(output).open("wb") as file:
        child = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(child.pid, flush=True)
    threading.Thread(target=send_events, daemon=True).start()
    print(child.wait(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
