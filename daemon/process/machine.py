"""The memory and the cores that processes of this machine, or of this container, may still use."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file "),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
)
"""Limit, use, and the part of it that Linux frees when memory is needed: of version 2 and of version 1."""
_MAX_REAL_LIMIT = 1 << 60
"""Version 1 has a huge number instead of no limit."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory, for example those that a process uses, or those that are free."""

    resident: int
    committed: int  #: what Windows must be able to back, by memory or its page file; equal to `resident` elsewhere


def free_memory() -> Memory:
    """Return the free memory. A container's limit counts as the machine's memory. Raises OSError or psutil.Error."""
    resident = psutil.virtual_memory().available
    resident = min([resident, *(limit - used for limit, used in _memory_limits())])
    return Memory(resident, _free_commit() if sys.platform == "win32" else resident)


def total_memory() -> int:
    """Return the bytes of memory that this machine or container has. Raises OSError or psutil.Error."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _memory_limits())])


def memory_of(pid: int) -> Memory:
    """Return the memory that a process and its descendants use. Raises psutil.Error.

    On Windows, the Python of a virtual environment is a small program that starts another one.
    """
    process = psutil.Process(pid)
    infos = [member.memory_info() for member in (process, *process.children(recursive=True))]
    resident = sum(info.rss for info in infos)
    return Memory(resident, sum(getattr(info, "private", info.rss) for info in infos))  # only Windows has `private`


def usable_cores() -> float:
    """Return the number of cores that this process may use: 1.5 if its container may use one and a half."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    return min([cores, *_quotas()])


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Yield the limit and the use of each control group of this process that has a limit."""
    for folder in _own_folders("memory"):
        for limit_name, used_name, freeable_name in _MEMORY_FILES:
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None and limit < _MAX_REAL_LIMIT:
                yield limit, used - _freeable(folder / "memory.stat", freeable_name)


def _freeable(stat: Path, name: str) -> int:
    lines = _text(stat).splitlines()
    return next((int(line.removeprefix(name)) for line in lines if line.startswith(name)), 0)


def _quotas() -> Iterator[float]:
    """Yield the number of cores that each control group of this process may use, if it is limited."""
    for folder in _own_folders("cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not period:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.strip().isdecimal() and period.strip().isdecimal() and int(period):
            yield int(quota) / int(period)


def _own_folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups for a controller, up to the root; none if not on Linux."""
    for line in _text(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CONTROL_GROUPS / controllers if controllers else CONTROL_GROUPS
        relative = PurePosixPath(path.lstrip("/"))
        for part in (relative, *relative.parents):  # in a container, the path may be that of the host
            yield root / part


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("total", "free", "total_commit", "free_commit", "a", "b", "c")),
    )


def _free_commit() -> int:
    """Return the bytes that Windows still allows this process to commit. Raises OSError."""
    if sys.platform != "win32":
        raise OSError("only Windows limits what is committed")
    status = _MemoryStatus(size=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise ctypes.WinError()
    return int(status.free_commit)
