"""Whether the disk has room for another cycle: it is better not to begin than to fail at the last file."""

from __future__ import annotations

import shutil
from pathlib import Path

from daemon.runtime.context import Context
from schemas.storage.layout import ProjectPaths

LEAST_BYTES = 16_000_000
_SHARE = 3
"""A cycle lies in staging or its folder, in the copies, and once more while these are replaced."""


def has_room(context: Context) -> bool:
    """Return whether a cycle may begin, and warn where it may not."""
    missing = shortage(context.paths)
    if missing is None:
        context.clear_warning("W_DISK")
    else:
        context.warn("W_DISK", missing)
    return missing is None


def shortage(paths: ProjectPaths) -> str | None:
    """Say in words how much room is missing for a cycle as large as the last one; None where there is enough."""
    needed = max(LEAST_BYTES, _SHARE * _newest_cycle_bytes(paths.models))
    free = shutil.disk_usage(paths.training).free
    if free >= needed:
        return None
    return (
        f"the disk is full: {free / 1e6:.0f} MB are free, a cycle needs {needed / 1e6:.0f} MB; the engine keeps its "
        "model, training goes on by itself once there is room"
    )


def _newest_cycle_bytes(models: Path) -> int:
    newest = max((path for path in models.glob("cycle_*") if path.is_dir()), default=None)
    return 0 if newest is None else sum(path.stat().st_size for path in newest.iterdir())
