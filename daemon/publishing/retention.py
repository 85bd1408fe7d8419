"""Retention: pure functions that choose files and cycle folders to remove, and functions that remove them."""

from __future__ import annotations

import contextlib
import errno
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from daemon.ledger.cycle import Cycle
from daemon.ledger.records import FileSignature
from daemon.publishing.disk_budget import GB, bytes_taken, limit_bytes, over_budget
from daemon.publishing.published_cycles import cycle_of_folder, record_removed_cycle
from daemon.runtime.context import Context
from schemas.storage.files import REAL_DISK, TEMPORARY_NAME, Disk, temporary_name
from schemas.storage.guarded import names_in, paths_in
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import for_system

HOUR_S = 3600.0
TEMPORARY_S = 60.0
"""Writing a file takes less time than this, so an older temporary file is left from a crash."""
LOGS_KEPT = 200
_WORKING_FOLDER = re.compile(r"(?:removed_)?cycle_([0-9]{6,9})")
_COPIED_FOLDER = re.compile(r"\.cycle_[0-9]{6,}\.[0-9a-f]{8}\.tmp")
"""A cycle's folder that is being copied to or removed from Models, if State is on another disk."""
_ARRAYS = re.compile(r"[0-9a-f]{64}\.columns")
_CYCLE_LOG = re.compile(r"cycle_([0-9]{1,9})\.log")


class AcceptedFiles(Protocol):
    """The accepted files in Exports. `Inbox` implements it."""

    @property
    def file_count(self) -> int:
        """Return their number."""

    def forget_files(self, names: Iterable[str]) -> None:
        """Record that files are not in Exports any more."""


def apply_retention(context: Context, cycle_id: int, accepted: AcceptedFiles) -> None:
    """Remove the files that are not needed any more after cycle `cycle_id` was published."""
    ledger, settings = context.ledger, context.settings.daemon
    if settings.clear_exports_after_training:
        _remove_exports(context, ledger.files_of_cycle(cycle_id), accepted)
    used = ledger.used_files()
    surplus = surplus_exports(used, present=accepted.file_count, limit=settings.max_export_files, by=settings.limit_by)
    files = ledger.files()
    _remove_exports(context, [(name, files[name][0]) for name in surplus if name in files], accepted)
    _keep_disk_budget(context, accepted)
    now_s = context.clock.utc_s()
    remove_stale_staging(context.paths, keep=(), own_up_to=ledger.last_cycle_id(), disk=context.disk)
    remove_temporaries(context.paths, now_s=now_s, older_than_s=TEMPORARY_S, disk=context.disk)
    ages = cycle_folder_ages(context.paths.models, now_s=now_s, own=ledger.published_cycles())
    last, best = ledger.last_publication(), best_cycle(ledger.rewards_earned(ages))
    always = {last.cycle_id if last else None, best} - {None}
    removed = surplus_cycles(ages, keep_newest=settings.keep_cycles, always=always)
    results = {cycle: ledger.result(cycle) for cycle in removed}
    written = {cycle: result.files for cycle, result in results.items() if result is not None}
    remove_cycle_folders(context.paths, written, disk=context.disk)
    remove_old_logs(context.paths, own_up_to=ledger.last_cycle_id(), disk=context.disk)
    remove_unneeded_arrays(context.paths, ledger.cache_needed(), disk=context.disk)


def remove_leftovers(context: Context, cycle: Cycle | None) -> None:
    """Remove temporary files and the staging folders of all cycles but `cycle`, or if it is None, a last failed one."""
    last = context.ledger.history(1)
    kept_cycles = {cycle.id} if cycle else {ended.cycle for ended in last if ended.state == "failed"}
    remove_temporaries(context.paths, now_s=context.clock.utc_s(), disk=context.disk)
    last_id = context.ledger.last_cycle_id()
    remove_stale_staging(context.paths, keep=kept_cycles, own_up_to=last_id, disk=context.disk)


def surplus_exports(
    used: Sequence[tuple[str, float]], *, present: int, limit: int, by: Literal["age", "quality"]
) -> list[str]:
    """Return the used files to remove so that at most `limit` of the `present` files remain.

    `used` contains (name, reward per step), oldest first; `limit` 0 means no limit.
    """
    too_many = present - limit if limit else 0
    if too_many <= 0:
        return []
    candidates = list(used) if by == "age" else sorted(used, key=lambda item: item[1])
    return [name for name, _ in candidates[:too_many]]


def best_cycle(earned: Mapping[int, float]) -> int | None:
    """Return the cycle whose model earned the most reward per step (the oldest of equal ones), or None."""
    return max(sorted(earned), key=lambda cycle: earned[cycle], default=None)


def surplus_cycles(
    ages_s: Mapping[int, float], *, keep_newest: int, always: Collection[int | None], younger_than_s: float = HOUR_S
) -> list[int]:
    """Return the cycle folders to remove: all but the newest, those in `always`, and those younger than an hour.

    `ages_s` contains the age of each cycle's folder.
    """
    old_ones = sorted(ages_s)[:-keep_newest]
    return [cycle for cycle in old_ones if cycle not in always and ages_s[cycle] > younger_than_s]


def cycle_folder_ages(models: Path, *, now_s: float, own: Collection[int]) -> dict[int, float]:
    """Return the age of the folder of each cycle in `own`, in seconds; negative if the clock was set back."""
    ages = {}
    for path in paths_in(models):
        cycle = cycle_of_folder(path.name)
        if cycle is not None and cycle in own and stat.S_ISDIR((info := path.lstat()).st_mode):
            ages[cycle] = now_s - info.st_mtime
    return ages


def remove_cycle_folders(paths: ProjectPaths, files: Mapping[int, Collection[str]], *, disk: Disk = REAL_DISK) -> None:
    """Remove cycle folders; `files` has the names of the files that the trainer wrote for each cycle.

    Each folder disappears from Models in one step; if the disk refuses, it stays. If a user has put other files into a
    folder, only Hotlap's files in it are removed.
    """
    for cycle, names in files.items():
        folder = paths.cycle_folder(cycle)
        removed = paths.staging / f"removed_{folder.name}"
        with contextlib.suppress(OSError):
            present = names_in(folder)
            own = {name for name in present if _is_from_cycle(name, names)}
            has_others = len(own) < len(present)
            if has_others and not own:
                continue
            record_removed_cycle(paths, cycle, disk=disk)
            if has_others:
                for name in sorted(own):
                    disk.unlink(folder / name)
                continue
            disk.remove_folder(removed)
            try:
                disk.rename(folder, removed)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                removed = temporary_name(folder)  # State is on another disk
                disk.rename(folder, removed)
            disk.fsync_dir(paths.models)
            disk.remove_folder(removed)


def _is_from_cycle(name: str, files: Collection[str]) -> bool:
    """Return whether a file in a cycle's folder is from its trainer, or was exported from one of its checkpoints."""
    return name in files or (name.startswith("model_epoch_") and f"{name.removesuffix('.json')}.pt" in files)


def remove_old_logs(
    paths: ProjectPaths, *, own_up_to: int, keep_newest: int = LOGS_KEPT, disk: Disk = REAL_DISK
) -> None:
    """Remove the logs of all but the newest cycles up to number `own_up_to`. If the disk refuses, a log stays."""
    numbered = ((path, _CYCLE_LOG.fullmatch(path.name)) for path in paths_in(paths.logs))
    found = {int(match.group(1)): path for path, match in numbered if match and int(match.group(1)) <= own_up_to}
    for cycle in sorted(found)[:-keep_newest]:
        with contextlib.suppress(OSError):
            disk.unlink(found[cycle])


def remove_temporaries(paths: ProjectPaths, *, now_s: float, older_than_s: float = 0.0, disk: Disk = REAL_DISK) -> None:
    """Remove the temporary files that are left from a crash or a disk error, and copies of cycle folders."""
    for folder in (paths.training, *(f for f in paths.folders() if f != paths.exports)):
        for path in paths_in(folder):
            if not TEMPORARY_NAME.fullmatch(path.name):
                continue
            with contextlib.suppress(OSError):
                info = path.lstat()
                if older_than_s and now_s - info.st_mtime < older_than_s:
                    continue
                if stat.S_ISREG(info.st_mode):
                    disk.unlink(path)
                elif stat.S_ISDIR(info.st_mode) and _COPIED_FOLDER.fullmatch(path.name) and folder == paths.models:
                    disk.remove_folder(path)


def remove_stale_staging(paths: ProjectPaths, *, keep: Collection[int], own_up_to: int, disk: Disk = REAL_DISK) -> None:
    """Remove the working folders of cycles up to number `own_up_to` in staging, except those of the cycles to keep."""
    kept_names = {f"cycle_{cycle:06d}" for cycle in keep}
    for path in paths_in(paths.staging):
        match = _WORKING_FOLDER.fullmatch(path.name)
        is_own = match is not None and int(match.group(1)) <= own_up_to
        if is_own and path.is_dir() and path.name not in kept_names:
            with contextlib.suppress(OSError):
                disk.remove_folder(path)


def remove_if_unchanged(folder: Path, name: str, signature: FileSignature, *, disk: Disk = REAL_DISK) -> bool:
    """Remove a file from Exports unless it has changed; return whether it does not exist any more."""
    path = for_system(folder / name)
    try:
        if FileSignature.of(path.lstat()) != signature:
            return False
        disk.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_unneeded_arrays(paths: ProjectPaths, needed: Collection[str], *, disk: Disk = REAL_DISK) -> None:
    """Remove the arrays of rollouts that no cycle will need."""
    for path in paths_in(paths.cache):
        if _ARRAYS.fullmatch(path.name) and path.stem not in needed:
            with contextlib.suppress(OSError):
                disk.unlink(path)


def _keep_disk_budget(context: Context, accepted: AcceptedFiles) -> None:
    """Remove the oldest used rollouts if all of them together take more of the disk than they may."""
    limit = limit_bytes(context.settings.daemon.disk_budget_gb)
    if not limit:
        return
    files = context.ledger.files()
    sizes, used = bytes_taken(context.paths, files)
    if used <= limit:
        return
    chosen = over_budget([name for name, _ in context.ledger.used_files()], sizes, excess=used - limit)
    removed = _remove_exports(context, [(name, files[name][0]) for name in chosen if name in files], accepted)
    if removed:
        context.log.info(
            f"removed the {removed} oldest used rollouts: all of them and their caches may take"
            f" {limit / GB:.1f} GB (daemon.disk_budget_gb)"
        )


def _remove_exports(context: Context, files: Sequence[tuple[str, FileSignature]], accepted: AcceptedFiles) -> int:
    """Remove files from Exports unless they have changed; return how many do not exist any more."""
    exports = context.paths.exports
    gone = [name for name, signature in files if remove_if_unchanged(exports, name, signature, disk=context.disk)]
    accepted.forget_files(gone)
    return len(gone)
