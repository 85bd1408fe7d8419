"""A child ends with its parent, and can import anything while it waits for that."""

from __future__ import annotations

import subprocess
import sys
import threading

IMPORT_S = 45.0  #: more than an import of numpy takes on a busy machine

IMPORT_LATE = """
import sys, time
from schemas.process.lifeline import end_with_parent
end_with_parent()
time.sleep(0.2)  # the lifeline waits for input now
import numpy
print("imported", flush=True)
time.sleep(3600)
"""


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line of its output; "" if it ends or hangs."""
    timer = threading.Timer(IMPORT_S, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    return line


def test_numpy_can_be_imported_while_the_lifeline_waits_and_the_child_ends_with_code_75_when_its_input_closes():
    """On Windows the import hung forever: OpenBLAS asked for the state of a descriptor that was being read."""
    command = [sys.executable, "-c", IMPORT_LATE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        line = first_line(process)
        assert line == "imported\n", f"numpy was not imported within {IMPORT_S} s: take_stdin must replace descriptor 0"
        process.stdin.close()
        assert process.wait(30) == 75


def test_standard_input_is_empty_once_the_lifeline_has_it():
    code = (
        "import os, sys; from schemas.process.lifeline import end_with_parent; end_with_parent(); "
        "print(os.read(0, 10), sys.stdin.read() == '', flush=True)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert first_line(process) == "b'' True\n", (
            "the child waits for its input: take_stdin must replace descriptor 0"
        )
