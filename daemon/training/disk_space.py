"""Checks before a cycle begins, so that it does not fail at its last file: enough space on the disk, no links."""

from __future__ import annotations

import shutil
from pathlib import Path

from daemon.publishing.published_cycles import cycle_of_folder
from daemon.runtime.context import Context
from daemon.runtime.own_folders import are_folders_own
from schemas.storage.layout import ProjectPaths

MIN_FREE_BYTES = 16_000_000
_COPIES = 3
"""A cycle's files exist in its folder, as copies in Models, and a third time while these copies are replaced."""


def may_start(context: Context) -> bool:
    """Return whether a cycle can begin: Hotlap's folders are not links, and the disk has enough space."""
    return are_folders_own(context) and has_room(context)


def has_room(context: Context) -> bool:
    """Return whether the disk has enough space for a cycle, and warn if it does not."""
    missing = shortage(context.paths)
    if missing is None:
        context.clear_warning("W_DISK")
    else:
        context.warn("W_DISK", missing)
    return missing is None


def shortage(paths: ProjectPaths) -> str | None:
    """Return a message if the space is not enough for a cycle as large as the last one, else None."""
    needed = max(MIN_FREE_BYTES, _COPIES * _newest_cycle_bytes(paths.models))
    others = (folder for folder in (paths.models, paths.state) if folder.is_dir())  # they may be on other disks
    free = min(shutil.disk_usage(folder).free for folder in (paths.training, *others))
    if free >= needed:
        return None
    return (
        f"the disk is full: {free / 1e6:.0f} MB are free, a cycle needs {needed / 1e6:.0f} MB; no cycle starts before "
        "enough space is free, and the engine keeps its model"
    )


def _newest_cycle_bytes(models: Path) -> int:
    folders = (path for path in models.glob("cycle_*") if cycle_of_folder(path.name) is not None and path.is_dir())
    newest = max(folders, default=None)
    try:
        return 0 if newest is None else sum(map(_size, newest.iterdir()))
    except OSError:  # it cannot be listed, or it was removed just now
        return 0


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
