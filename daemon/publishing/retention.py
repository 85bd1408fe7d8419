"""What may be removed, and when: decided by pure functions, done by thin ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from daemon.ledger.records import FileSignature
from daemon.publishing.published_cycles import record_removed_cycle
from schemas.storage.files import REAL_DISK, TEMPORARY_NAME, Disk
from schemas.storage.layout import ProjectPaths

HOUR_S = 3600.0
TEMPORARY_S = 60.0
"""Nothing takes this long to write: a temporary file that is older was left behind."""
LOGS_KEPT = 200
"""So many cycles' logs stay, the newest."""
_CYCLE_FOLDER = re.compile(r"cycle_(\d{6,})")
_CYCLE_LOG = re.compile(r"cycle_(\d+)\.log")


def surplus_exports(
    used: Sequence[tuple[str, float]], *, present: int, limit: int, by: Literal["age", "quality"]
) -> list[str]:
    """Return the names to remove so that at most `limit` files stay of the `present`; only used ones ever go.

    `used` holds (name, reward per step), oldest first; `limit` 0 means no limit.
    """
    too_many = present - limit if limit else 0
    if too_many <= 0:
        return []
    candidates = list(used) if by == "age" else sorted(used, key=lambda item: item[1])
    return [name for name, _ in candidates[:too_many]]


def best_cycle(earned: Mapping[int, float]) -> int | None:
    """Return the cycle whose model earned the most reward per step, the oldest of equals; None where none has earned."""
    return max(sorted(earned), key=lambda cycle: earned[cycle], default=None)


def surplus_cycles(
    ages_s: Mapping[int, float], *, keep_newest: int, always: Collection[int], younger_than_s: float = HOUR_S
) -> list[int]:
    """Return the cycle folders to remove: not the newest, not those in `always`, none younger than an hour.

    `ages_s` maps each cycle that has a folder to the folder's age in seconds.
    """
    old_ones = sorted(ages_s)[:-keep_newest]
    return [cycle for cycle in old_ones if cycle not in always and ages_s[cycle] > younger_than_s]


def cycle_folder_ages(models: Path, *, now_s: float) -> dict[int, float]:
    """Return the age of each cycle's folder; a clock that went back makes them young, never old."""
    ages = {}
    for path in models.iterdir():
        match = _CYCLE_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            ages[int(match.group(1))] = now_s - path.stat().st_mtime
    return ages


def remove_cycle_folders(paths: ProjectPaths, cycles: Sequence[int], *, disk: Disk = REAL_DISK) -> None:
    """Remove published folders, each at once for its readers; one that the disk refuses stays until the next time."""
    for cycle in cycles:
        folder = paths.cycle_folder(cycle)
        removed = paths.staging / f"removed_{folder.name}"
        with contextlib.suppress(OSError):
            record_removed_cycle(paths, cycle, disk=disk)
            disk.remove_folder(removed)
            disk.rename(folder, removed)
            disk.fsync_dir(paths.models)
            disk.remove_folder(removed)


def remove_old_logs(paths: ProjectPaths, *, keep_newest: int = LOGS_KEPT, disk: Disk = REAL_DISK) -> None:
    """Remove the logs of long gone cycles; one that the disk refuses stays until the next time."""
    found = {int(match.group(1)): path for path in paths.logs.iterdir() if (match := _CYCLE_LOG.fullmatch(path.name))}
    for cycle in sorted(found)[:-keep_newest]:
        with contextlib.suppress(OSError):
            disk.unlink(found[cycle])


def remove_temporaries(paths: ProjectPaths, *, now_s: float, older_than_s: float = 0.0, disk: Disk = REAL_DISK) -> None:
    """Clear the files that a killed daemon was writing, or that a disk which refused did not let go."""
    for folder in (paths.training, *(f for f in paths.folders() if f != paths.exports)):
        for path in folder.iterdir():
            if TEMPORARY_NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    if older_than_s == 0.0 or now_s - path.stat().st_mtime >= older_than_s:
                        disk.unlink(path)


def remove_stale_staging(paths: ProjectPaths, *, keep: Collection[int], disk: Disk = REAL_DISK) -> None:
    """Clear what trainers left, but for these cycles', and what is left of removed folders."""
    kept = {f"cycle_{cycle:06d}" for cycle in keep}
    for path in paths.staging.iterdir():
        if path.is_dir() and path.name not in kept:
            with contextlib.suppress(OSError):
                disk.remove_folder(path)


def remove_if_unchanged(folder: Path, name: str, signature: FileSignature | None, *, disk: Disk = REAL_DISK) -> bool:
    """Remove a rollout from Exports unless it is another file by now; tell whether it is gone."""
    path = folder / name
    try:
        if signature is not None and FileSignature.of(path.lstat()) != signature:
            return False
        disk.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_unneeded_arrays(paths: ProjectPaths, needed: Collection[str], *, disk: Disk = REAL_DISK) -> None:
    """Drop the arrays that nobody will ask for."""
    for path in paths.cache.iterdir():
        if path.suffix != ".tmp" and path.stem not in needed:
            with contextlib.suppress(OSError):
                disk.unlink(path)
