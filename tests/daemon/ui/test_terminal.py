"""The console of Windows: its modes while the dashboard is shown and afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.platforms import is_wine, needs_windows

ROOT = Path(__file__).parents[3]
CHILD = """
import ctypes, json, msvcrt, sys
from ctypes import wintypes
from daemon.ui.terminal import prepare_console, size_of, unbuffered, wants_dashboard

kernel = ctypes.WinDLL("kernel32")
kernel.GetConsoleMode.argtypes = [wintypes.HANDLE, wintypes.LPDWORD]
kernel.SetStdHandle.argtypes = [wintypes.DWORD, wintypes.HANDLE]
screen, keyboard = open("CONOUT$", "w", encoding="utf-8"), open("CONIN$")
kernel.SetStdHandle(wintypes.DWORD(-10), msvcrt.get_osfhandle(keyboard.fileno()))
seen = {}

def modes():
    found = []
    for stream in (screen, keyboard):
        mode = wintypes.DWORD()
        if not kernel.GetConsoleMode(msvcrt.get_osfhandle(stream.fileno()), ctypes.byref(mode)):
            raise OSError("no console")
        found.append(mode.value)
    return found

try:
    seen["wants"], seen["size"] = wants_dashboard(screen), size_of(screen)
    seen["before"] = modes()
    try:
        with prepare_console(screen):
            seen["within"] = modes()
            unbuffered(screen)("\\u2588" * 20000)
    except OSError as error:
        seen["error"] = str(error)
    seen["after"] = modes()
except BaseException as error:
    seen["bug"] = repr(error)
open(sys.argv[1], "w").write(json.dumps(seen))
"""


@pytest.fixture
def seen(tmp_path):
    """Return what a program with a console of its own found there."""
    if sys.platform == "win32":
        command = [sys.executable, "-c", CHILD, str(tmp_path / "seen")]
        subprocess.run(command, cwd=ROOT, creationflags=subprocess.CREATE_NEW_CONSOLE, timeout=60, check=True)
    found = json.loads((tmp_path / "seen").read_text())
    if is_wine() and "no console" in found.get("bug", ""):
        pytest.skip("Wine: CREATE_NEW_CONSOLE makes an incomplete console if there is no display")
    return found


@needs_windows("consoles")
def test_a_console_is_prepared_and_restored(seen):
    assert "bug" not in seen
    assert seen["wants"]
    assert min(seen["size"]) > 0
    assert seen["after"] == seen["before"]
    if is_wine():  # it accepts the mode, and then shows escape sequences as text
        assert seen["error"] == "this console does not support escape sequences"
    else:
        screen, keyboard = seen["within"]
        assert (screen & 0x04, screen & 0x02, keyboard & 0x40) == (4, 0, 0)
