"""A child ends with its parent, and can import anything while it waits for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT_LATE = """
import sys, time
from schemas.process.lifeline import end_with_parent
end_with_parent()
time.sleep(0.2)  # the lifeline waits for input now
import numpy
print("imported", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def child():
    """A child that imports numpy while its lifeline waits; it has its parent's end of the pipe as `stdin`."""
    command = [sys.executable, "-c", IMPORT_LATE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.timeout(60)
def test_numpy_can_be_imported_while_the_lifeline_waits(child):
    """On Windows this hung forever: OpenBLAS asked for the state of a descriptor that was being read."""
    assert child.stdout.readline() == "imported\n"


def test_the_child_ends_with_code_75_when_its_input_closes(child):
    assert child.stdout.readline() == "imported\n"
    child.stdin.close()
    assert child.wait(30) == 75


def test_standard_input_is_empty_once_the_lifeline_has_it():
    code = (
        "import os, sys; from schemas.process.lifeline import end_with_parent; end_with_parent(); "
        "print(os.read(0, 10), sys.stdin.read() == '', flush=True)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "b'' True\n"
