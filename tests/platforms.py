"""Marks for tests that cannot run on every system. Each reason begins with the cause: POSIX, Linux or Wine."""

import contextlib
import functools
import sys
from pathlib import Path

import psutil
import pytest


@functools.cache
def is_wine() -> bool:
    """Return whether this is Windows Python on Wine, which lacks some functions of Windows."""
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


PATIENCE = 4 if is_wine() else 1
"""The factor on the time limits of conditions: starting a program takes longer on Wine."""


def is_console(process: psutil.Process) -> bool:
    """Return whether a process is the console that Windows gives to another one."""
    with contextlib.suppress(psutil.Error, OSError):
        return any("conhost" in word for word in process.cmdline()[:1])
    return False


def needs_posix(feature: str) -> pytest.MarkDecorator:
    """Skip a test on Windows, because it is about something that only POSIX has."""
    return pytest.mark.skipif(sys.platform == "win32", reason=f"POSIX: {feature}")


def needs_linux(feature: str) -> pytest.MarkDecorator:
    """Skip a test on other systems, because it is about something that only Linux has."""
    return pytest.mark.skipif(sys.platform != "linux", reason=f"Linux: {feature}")


def needs_windows(feature: str) -> pytest.MarkDecorator:
    """Skip a test on other systems than Windows."""
    return pytest.mark.skipif(sys.platform != "win32", reason=f"Windows: {feature}")


def needs_real_windows(gap: str) -> pytest.MarkDecorator:
    """Skip a test on Wine. The gap names the function that differs from Windows."""
    return pytest.mark.skipif(is_wine(), reason=f"Wine: {gap}")


def make_link(link: Path, target: Path) -> None:
    """Create a symbolic link; skip the test if Windows or Wine does not create it."""
    if sys.platform != "win32":
        link.symlink_to(target)
        return
    try:
        link.symlink_to(target, target_is_directory=(link.parent / target).is_dir())
    except OSError as error:
        pytest.skip(f"Windows: symbolic links need a privilege ({error})")
    if not link.is_symlink():
        pytest.skip("Wine: CreateSymbolicLinkW creates nothing")


def peak_bytes() -> int:
    """Return the most memory that this process has used so far."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
