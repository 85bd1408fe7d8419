"""Moves away what has the name of a folder or file of Hotlap and is not one, so that neither a start nor a cycle fails.

A file in the place of a folder, or a folder in the place of a file, is renamed, never removed. Links are left as they
are: the disk that they lead to may be missing only now.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from daemon.errors import DaemonError
from daemon.runtime import commands
from daemon.runtime.context import Context
from daemon.runtime.own_folders import LOG, WORKING_FOLDER, are_folders_own
from schemas.errors import HotlapError
from schemas.storage.files import REAL_DISK, Disk
from schemas.storage.layout import ProjectPaths
from schemas.storage.set_aside import set_aside
from schemas.storage.windows_paths import error_text, for_system, shown_path
from schemas.text import printable

CODE = "W_BLOCKED"
_SHOWN = 3
_NO_CYCLE = "no cycle starts"
_IN_STATE = re.compile(
    r"ledger\.sqlite3(-journal|-wal|-shm|\.new|\.new-journal)?|gone_cycles\.jsonl|compared_rollouts\.npz"
)
_ARRAYS = re.compile(r"[0-9a-f]{64}\.columns")


def clear_folders(folders: Iterable[Path], *, at_s: float, disk: Disk = REAL_DISK) -> list[Path]:
    """Move away files that have the names of these folders; return their new paths.

    Raises DaemonError if one of them cannot be moved.
    """
    moved = []
    for folder in folders:
        if not _is_other_file(folder):
            continue
        try:
            moved.append(set_aside(folder, at_s=at_s, disk=disk))
        except OSError as error:
            raise DaemonError(
                f"{shown_path(folder)} is a file, but must be a folder, and cannot be moved: {error_text(error)}",
                hint="move or rename the file",
                code="E_PROJECT",
            ) from None
    return moved


def clear_files(paths: ProjectPaths, *, at_s: float, disk: Disk = REAL_DISK) -> tuple[list[Path], str]:
    """Move away what has the name of one of Hotlap's files, but is a folder, and files with names of working folders.

    Return the new paths, and why one of them cannot be moved, or "". A missing folder contains nothing to move.
    """
    moved: list[Path] = []
    problem = ""
    for path in _in_the_way(paths):
        try:
            moved.append(set_aside(path, at_s=at_s, disk=disk))
        except OSError as error:
            problem = problem or f"{shown_path(path)} has the name of a file of Hotlap and cannot be moved:"
            problem += f" {error_text(error)} -> move or rename it" if "->" not in problem else ""
    return moved, problem


def find_in_the_way(paths: ProjectPaths) -> list[Path]:
    """Return what the next start moves away."""
    return [*filter(_is_other_file, (paths.training, *paths.folders())), *_in_the_way(paths)]


def clear_the_way(context: Context) -> bool:
    """Move away what is in the way of the next cycle, and warn. Return whether all folders of Hotlap exist then."""
    if not are_folders_own(context):
        return False
    now_s, moved, problem = context.clock.utc_s(), [], ""
    try:
        moved += clear_folders(context.paths.folders(), at_s=now_s, disk=context.disk)
        for folder in context.paths.folders_to_make():
            context.disk.make_folder(folder)
        more, problem = clear_files(context.paths, at_s=now_s, disk=context.disk)
        moved += [*more, *_clear_staging(context, now_s)]
    except (OSError, HotlapError) as error:
        report_moved(context, moved, f"{_NO_CYCLE}: {error_text(error)}")
        return False
    clear_passing_problem(context)
    report_moved(context, moved, problem)
    return True


def clear_passing_problem(context: Context) -> None:
    """Clear the warning that no cycle starts, if nothing was moved: it is over."""
    if any(warning.code == CODE and warning.message.startswith(_NO_CYCLE) for warning in context.warnings()):
        context.clear_warning(CODE)


def _clear_staging(context: Context, now_s: float) -> Iterator[Path]:
    """Move away working folders of cycles that do not exist yet; return their new paths. Raises OSError."""
    last = context.ledger.last_cycle_id()
    for path in _entries(context.paths.staging, WORKING_FOLDER, folders=True):
        if int(path.name.rpartition("_")[2]) > last:
            yield set_aside(path, at_s=now_s, disk=context.disk)


def report_moved(context: Context, moved: Iterable[Path], problem: str = "") -> None:
    """Warn about what was moved away, and about what could not be."""
    names = [printable(_shown(path, context.paths)) for path in moved]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        text = f"what had the name of a folder or file of Hotlap was moved, unchanged, to {', '.join(names[:_SHOWN])}"
        context.warn(CODE, f"{text}{more}{f'; {problem}' if problem else ''}")
    elif problem:
        context.warn(CODE, problem)


def _in_the_way(paths: ProjectPaths) -> Iterator[Path]:
    yield from filter(is_folder, (paths.status, paths.lock))
    for folder, names in ((paths.state, _IN_STATE), (paths.logs, LOG), (paths.commands, commands.NAME)):
        yield from _entries(folder, names, folders=True)
    yield from _entries(paths.cache, _ARRAYS, folders=True)
    yield from _entries(paths.staging, WORKING_FOLDER, folders=False)


def _entries(folder: Path, names: re.Pattern[str], *, folders: bool) -> Iterator[Path]:
    """Yield the folders (or if not `folders`, everything else) in a folder with names that match."""
    try:
        with os.scandir(for_system(folder)) as entries:
            found = [e.name for e in entries if names.fullmatch(e.name) and _kind(e, folders=folders)]
    except OSError:
        return
    yield from (folder / name for name in sorted(found))


def _kind(entry: os.DirEntry[str], *, folders: bool) -> bool:
    return entry.is_dir(follow_symlinks=False) is folders


def _is_other_file(path: Path) -> bool:
    """Return whether something is there that is neither a folder nor a link."""
    try:
        mode = for_system(path).lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode)


def is_folder(path: Path) -> bool:
    """Return whether a folder is there, and not a link."""
    try:
        return stat.S_ISDIR(for_system(path).lstat().st_mode)
    except OSError:
        return False


def _shown(path: Path, paths: ProjectPaths) -> str:
    return path.relative_to(paths.project).as_posix() if path.is_relative_to(paths.project) else shown_path(path)
