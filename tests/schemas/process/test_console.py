"""Children open no window if this process has no console, and share its console otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from schemas.process.console import CREATE_NO_WINDOW, has_console, window_flags

REPORT = """
import ctypes, sys
kernel32 = ctypes.WinDLL("kernel32")
kernel32.GetConsoleWindow.restype = ctypes.c_void_p
pids = (ctypes.c_uint32 * 64)()
count = kernel32.GetConsoleProcessList(pids, 64)
found = {"window": kernel32.GetConsoleWindow(), "console": sorted(pids[:count]), "executable": sys.executable}
import json
"""
CHILD = REPORT + "print(json.dumps(found), flush=True); sys.stdin.read()"
#: starts a child as the daemon does, and writes what both of them see
PARENT = (
    REPORT
    + f"""
import os, pathlib, subprocess
from schemas.process.tree import ProcessTree
from schemas.program.children import PYTHON
pipe = subprocess.PIPE
child = ProcessTree([PYTHON, "-c", {CHILD!r}], project=pathlib.Path.cwd(), stdin=pipe, stdout=pipe)
found = {{"parent": found, "child": json.loads(child.process.stdout.readline()), "pids": [os.getpid(), child.pid]}}
child.end()
pathlib.Path(sys.argv[1]).write_text(json.dumps(found))
"""
)
windows = pytest.mark.skipif(sys.platform != "win32", reason="consoles of Windows")


def report(folder: Path, flags: int, executable: str = sys.executable) -> dict:
    """Start the parent with creation flags; return what it and its child saw."""
    path = folder / "report.json"
    root = str(Path(__file__).parents[3])

    environment = {**os.environ, "PYTHONPATH": root}
    command = [executable, "-c", PARENT, str(path)]
    subprocess.run(command, creationflags=flags, check=True, timeout=60, env=environment)
    return orjson.loads(path.read_bytes())


@windows
@pytest.mark.parametrize("executable", ["python.exe", "pythonw.exe"])
def test_without_a_console_a_child_gets_one_without_a_window(tmp_path, executable):
    python = str(Path(sys.executable).with_name(executable))
    found = report(tmp_path, subprocess.DETACHED_PROCESS, python)
    assert found["parent"]["console"] == []
    assert found["child"]["console"] == [found["pids"][1]]
    assert found["child"]["window"] is None
    assert Path(found["child"]["executable"]).name == "python.exe"


@windows
def test_with_a_console_a_child_shares_it(tmp_path):
    found = report(tmp_path, subprocess.CREATE_NO_WINDOW)
    assert set(found["pids"]) <= set(found["child"]["console"])
    assert found["child"]["window"] is None


@pytest.mark.parametrize("here", [True, False])
def test_the_flag_depends_on_the_console(here):
    expected = CREATE_NO_WINDOW if sys.platform == "win32" and not here else 0
    assert window_flags(lambda: here) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX does not have console windows")
def test_posix_has_no_flags():
    assert has_console()
    assert window_flags() == 0
