"""Places and open files of Windows: a drive letter for a folder, a network share, a file that nobody else may open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platforms import is_wine

_GENERIC_READ_AND_WRITE, _OPEN_EXISTING = 0xC0000000, 3
SHARE_NOTHING, SHARE_READ_AND_WRITE = 0, 3
LETTER = "S:"

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _KERNEL = ctypes.WinDLL("kernel32", use_last_error=True)
    _KERNEL.CreateFileW.restype = wintypes.HANDLE
    _KERNEL.CloseHandle.argtypes = [wintypes.HANDLE]


@contextlib.contextmanager
def held_open(path: Path, *, share: int = SHARE_NOTHING) -> Iterator[None]:
    """Open a file. Unreal's writer shares nothing; `open` of Python shares reading and writing, but not removing."""
    handle = _KERNEL.CreateFileW(str(path), _GENERIC_READ_AND_WRITE, share, None, _OPEN_EXISTING, 0, None)
    if handle in {None, wintypes.HANDLE(-1).value}:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        yield
    finally:
        _KERNEL.CloseHandle(handle)


@contextlib.contextmanager
def drive_letter(folder: Path) -> Iterator[Path]:
    """Make a drive letter for a folder, as `subst` does. Wine's `subst` does nothing: it gets a link in its prefix."""
    root = Path(f"{LETTER}\\")
    if root.exists():
        pytest.skip(f"Windows: the drive {LETTER} is used")
    if is_wine():
        link = f"{os.environ['WINEPREFIX']}/dosdevices/{LETTER.lower()}"
        target = subprocess.run(["winepath", "-u", str(folder)], capture_output=True, check=True, text=True).stdout
        _unix("/bin/ln", "-s", target.strip(), link)
        remove = ("/bin/rm", link)
    else:
        subprocess.run(["subst", LETTER, str(folder)], check=True)
        remove = ()
    try:
        until = time.monotonic() + 5.0
        while not root.exists():  # Wine notices a new drive after up to a second
            assert time.monotonic() < until, f"{LETTER} does not appear"
            time.sleep(0.05)
        yield root
    finally:
        if remove:
            _unix(*remove)
        else:
            subprocess.run(["subst", LETTER, "/d"], check=True)


def network_share(folder: Path) -> Path:
    r"""Return a folder as `\\server\share\...`. Skip the test if this computer does not share its disks."""
    if is_wine():  # it looks for shares in its prefix
        share = Path("Z:" + os.environ["WINEPREFIX"]) / "dosdevices" / "unc" / "server" / "share" / folder.name
        share.mkdir(parents=True, exist_ok=True)
        return Path("//server/share") / folder.name
    shared = Path(f"//localhost/{folder.drive[0]}$", *folder.parts[1:])
    if not shared.is_dir():
        pytest.skip("Windows: this user may not use the share of a whole disk")
    return shared


def _unix(*command: str) -> None:
    subprocess.run(["start.exe", "/wait", "/unix", *command], check=True)
