"""Files of other programs with names that Hotlap uses: they are moved to a folder of their own, never replaced."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

from schemas.storage.files import REAL_DISK, Disk, read_regular, rename_with_retries, write_atomic

PREFIX = "before_hotlap_"
ANALYSIS_NAME = "model_analysis.json"
MODEL_NAME = re.compile(r"model_epoch_[0-9]+\.(pt|json)", re.IGNORECASE)  # file systems may ignore case
_MARKERS = (b"hotlap.model/", b"hotlap.checkpoint/", b"hotlap.analysis/")
"""Texts that the files which Hotlap writes contain, uncompressed."""
_NO_LIMIT = 1 << 62  #: bytes


def is_model_name(name: str) -> bool:
    """Return whether a training writes a file of this name to its folder: a checkpoint, a model or the analysis."""
    return MODEL_NAME.fullmatch(name) is not None or name.lower() == ANALYSIS_NAME


def has_marker(path: Path) -> bool:
    """Return whether it is a regular file that Hotlap wrote, judged by its content alone. Raises OSError."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    data = read_regular(path, limit=_NO_LIMIT)
    return any(marker in data for marker in _MARKERS)


def new_folder(parent: Path, *, at_s: float) -> Path:
    """Return the path of a folder that does not exist yet: `before_hotlap_<date>`, with `_2` and so on if needed."""
    name = f"{PREFIX}{time.strftime('%Y%m%d', time.localtime(at_s))}"
    candidate, number = parent / name, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = parent / f"{name}_{number}"
    return candidate


def set_aside(path: Path, *, at_s: float, disk: Disk = REAL_DISK) -> Path:
    """Rename what is in the way to a name that no program reads, in the same folder; return the new path.

    `<name>.set_aside_<date>`, with `_2` and so on if needed. Raises OSError.
    """
    name = f"{path.name}.set_aside_{time.strftime('%Y%m%d', time.localtime(at_s))}"
    target, number = path.with_name(name), 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{name}_{number}")
    rename_with_retries(path, target, disk=disk)
    with contextlib.suppress(OSError):
        disk.fsync_dir(path.parent)
    return target


def is_same_content(first: Path, second: Path) -> bool:
    """Return whether both are regular files with the same bytes."""
    try:
        sizes = [path.lstat().st_size for path in (first, second) if stat.S_ISREG(path.lstat().st_mode)]
        if len(sizes) != 2 or sizes[0] != sizes[1]:
            return False
        return read_regular(first, limit=_NO_LIMIT) == read_regular(second, limit=_NO_LIMIT)
    except OSError:
        return False


def keep_foreign(
    folder: Path, is_in_the_way: Callable[[Path], bool], *, at_s: float, disk: Disk = REAL_DISK
) -> Path | None:
    """Move entries that are in the way and were not written by Hotlap to a new folder in `folder`; return it.

    For programs without a ledger: the content of a file decides. Returns None if nothing was moved. Raises OSError.
    """
    foreign = [path for path in sorted(folder.iterdir()) if is_in_the_way(path) and not has_marker(path)]
    if not foreign:
        return None
    target = new_folder(folder, at_s=at_s)
    disk.make_folder(target)
    for path in foreign:
        move_to(target, path, disk=disk)
    disk.fsync_dir(target)
    return target


def move_to(folder: Path, path: Path, *, disk: Disk = REAL_DISK) -> None:
    """Move a file, folder or link to an existing folder that has no entry of this name.

    If another program holds the file open, it is copied, and the original stays. Raises OSError if it cannot be read.
    """
    try:
        rename_with_retries(path, folder / path.name, disk=disk)
    except PermissionError:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise
        copy_to(folder, path, disk=disk)


def copy_to(folder: Path, path: Path, *, disk: Disk = REAL_DISK) -> None:
    """Copy a regular file to an existing folder, completely or not at all. Raises OSError or HotlapError."""
    write_atomic(folder / path.name, read_regular(path, limit=_NO_LIMIT), disk=disk)
    with contextlib.suppress(OSError):
        disk.copy_time(path, folder / path.name)
