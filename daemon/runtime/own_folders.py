"""Checks that Hotlap's folders and files in a project are not links, pipes or devices.

Allowed are links that lead to the whole project, to Saved or to Saved/Training, and at Exports and Models, which an
engine uses. In an Exports that is a link, rollouts are read, but never moved or removed. A Models that is a link must
be empty or belong to the project (`project_mark`). Nothing else may be a link.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import DaemonError
from daemon.runtime.context import Context
from schemas.storage.careful_open import is_link_at
from schemas.storage.guarded import detach, names_in
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import for_system, shown_path
from schemas.text import printable

CODE, WARNING = "E_LINK", "W_LINK"
_SHOWN = 3
LOG = re.compile(r"(daemon(\.[0-9]+)?|warm_trainer|export|engine|cycle_[0-9]+)\.log")
WORKING_FOLDER = re.compile(r"(removed_)?cycle_[0-9]{6,}")
_LEDGER_FILES = ("", "-journal", "-wal", "-shm", ".new", ".new-journal")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A link, a pipe or a device in the place of a folder or file of Hotlap."""

    path: Path
    what: str  #: what it is: a link to a place, a pipe, a socket or a device
    remedy: str

    def sentence(self, project: Path) -> str:
        """Return it in words, with the remedy."""
        return f"{_relative(self.path, project)} is {self.what} -> {self.remedy}"


def find_obstacles(paths: ProjectPaths) -> list[Obstacle]:
    """Return what is in the place of Hotlap's folders and files and must not be used."""
    return [*_folders(paths), *_working_folders(paths), *_files(paths)]


def require_own_folders(paths: ProjectPaths) -> None:
    """Raise DaemonError (E_LINK) if a folder or file of Hotlap is a link, a pipe or a device."""
    if problem := _describe(find_obstacles(paths), paths):
        text, _, remedy = problem.rpartition(" -> ")
        raise DaemonError(text, hint=remedy, code=CODE)


def are_folders_own(context: Context) -> bool:
    """Return whether Hotlap's folders and files can be used, and warn if not: no cycle starts then."""
    # A trainer may have put a link in the place of its working folder, which the next cycle does not use.
    problem = _describe([*_folders(context.paths), *_files(context.paths)], context.paths)
    if problem is None:
        context.clear_warning(WARNING)
        return True
    context.warn(WARNING, f"no cycle starts, and nothing is written there: {problem}")
    return False


def linked_exports_note(paths: ProjectPaths, *, removes: bool) -> str | None:
    """Return a note if Exports is a link. `removes` states whether the settings remove used rollouts."""
    if not is_link_at(paths.exports):
        return None
    effect = "; clear_exports_after_training and max_export_files have no effect" if removes else ""
    return f"Exports is a link to {_target(paths.exports)}: rollouts are read there, but never moved or removed{effect}"


def detach_hard_links(paths: ProjectPaths) -> None:
    """Replace files that Hotlap writes in place, and that have another name as well, by copies. Raises OSError.

    Otherwise a copy of the project that consists of hard links, as some backups do, would change with the project.
    """
    for path in filter(_has_another_name, _files_written_in_place(paths)):
        detach(path)


def count_hard_links(paths: ProjectPaths) -> int:
    """Return how many files `detach_hard_links` would replace."""
    return sum(map(_has_another_name, _files_written_in_place(paths)))


def _has_another_name(path: Path) -> bool:
    try:
        info = for_system(path).lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_nlink > 1


def _describe(obstacles: list[Obstacle], paths: ProjectPaths) -> str | None:
    if not obstacles:
        return None
    text = "; ".join(obstacle.sentence(paths.project) for obstacle in obstacles[:_SHOWN])
    more = len(obstacles) - _SHOWN
    return f"{text}{f'; and {more} more' if more > 0 else ''}"


def _folders(paths: ProjectPaths) -> Iterator[Obstacle]:
    for folder in (paths.rejected, paths.logs, paths.cache, paths.staging, paths.commands):
        yield from _link_at(folder, "remove the link; Hotlap then creates the folder")
    if paths.state_folder is None:
        yield from _link_at(paths.state, f"remove the link and set daemon.state_dir = {_quoted_target(paths.state)}")
    for folder in (paths.exports, paths.models):
        if is_link_at(folder) and not folder.is_dir():
            what = f"a link to {_target(folder)}, which does not exist or is not a folder"
            yield Obstacle(folder, what, "correct or remove the link")


def _working_folders(paths: ProjectPaths) -> Iterator[Obstacle]:
    with contextlib.suppress(OSError):
        for name in filter(WORKING_FOLDER.fullmatch, names_in(paths.staging)):
            yield from _link_at(paths.staging / name, "remove the link")


def _files(paths: ProjectPaths) -> Iterator[Obstacle]:
    in_place = _files_written_in_place(paths)
    for path in (*in_place, paths.compared_rollouts, paths.status, paths.state_mark, paths.project_mark):
        yield from _link_at(path, "put the file itself there, or remove it")
        kind = _odd_kind(path)
        if kind:
            yield Obstacle(path, f"{kind}, not a file", "put the file itself there, or remove it")


def _files_written_in_place(paths: ProjectPaths) -> tuple[Path, ...]:
    ledger = [paths.ledger.with_name(f"{paths.ledger.name}{ending}") for ending in _LEDGER_FILES]
    logs: list[Path] = []
    with contextlib.suppress(OSError):
        logs = [paths.logs / name for name in names_in(paths.logs) if LOG.fullmatch(name)]
    return (*ledger, paths.gone_cycles, paths.lock, *logs)


def _link_at(path: Path, remedy: str) -> Iterator[Obstacle]:
    if is_link_at(path):
        yield Obstacle(path, f"a link to {_target(path)}, which Hotlap does not follow", remedy)


def _odd_kind(path: Path) -> str:
    """Return what is at a path, if it is neither a file, a folder, a link nor nothing."""
    try:
        mode = for_system(path).lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else ""


def _target(link: Path) -> str:
    try:
        return printable(shown_path(link.readlink()))
    except OSError:
        return "an unknown place"


def _quoted_target(link: Path) -> str:
    return f'"{_target(link)}"'


def _relative(path: Path, project: Path) -> str:
    return printable(path.relative_to(project).as_posix() if path.is_relative_to(project) else shown_path(path))
