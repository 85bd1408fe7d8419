"""Who else could have written a file or a folder: nothing that another user can change is obeyed or worked in."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from daemon.errors import DaemonError
from schemas.storage.layout import ProjectPaths


def check_config(path: Path) -> None:
    """Refuse a settings file that another user could have written. Raises DaemonError (E_SHARED_CONFIG)."""
    _check(path, "the config file ", "E_SHARED_CONFIG", remedy="chmod go-w")
    target = path.resolve()
    if target != path.absolute():
        _check(target, "the config file ", "E_SHARED_CONFIG", remedy="chmod go-w")


def check_folders(paths: ProjectPaths) -> None:
    """Refuse a project in which another user could put files in our place. Raises DaemonError (E_SHARED_FOLDER)."""
    for folder in (paths.project, paths.project / "Saved", paths.training, paths.models, paths.state):
        if folder.is_symlink() or folder.exists():
            _check(folder, "the folder ", "E_SHARED_FOLDER", remedy="chmod go-w")


def _check(path: Path, what: str, code: str, *, remedy: str) -> None:
    trouble = others_can_write(path)
    if trouble is not None:
        raise DaemonError(
            f"{what}{path} {trouble}",
            hint=f"`{remedy} {path}`, or --allow-shared where you trust all who can write there",
            code=code,
        )


if sys.platform == "win32":

    def others_can_write(_path: Path) -> str | None:
        """Nothing to read from mode bits here: who may write is inherited from the drive's and the folder's rights."""
        return None

else:
    import grp
    import pwd

    def others_can_write(path: Path) -> str | None:
        """Say why a user other than us and root could have written this; None where none could.

        The group's right to write is no harm where the group is its owner's own (umask 002 makes such files), nor is
        everybody's in a folder with the sticky bit, such as /tmp. A path that is not there is nobody's.
        """
        try:
            info = path.stat()
        except OSError:
            return None
        if info.st_uid not in {0, os.geteuid()}:
            return f"belongs to {_name_of(info.st_uid)}"
        if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
            return None
        if info.st_mode & stat.S_IWOTH:
            return "can be written by everybody"
        if info.st_mode & stat.S_IWGRP and not _is_private(info.st_gid, info.st_uid):
            return f"can be written by the group {_name_of(info.st_gid, group=True)}"
        return None

    def _is_private(gid: int, uid: int) -> bool:
        """Return whether a group has its user's name and nobody else in it."""
        try:
            group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
        except KeyError:
            return False
        return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}

    def _name_of(number: int, *, group: bool = False) -> str:
        find: Callable[[int], tuple[object, ...]] = grp.getgrgid if group else pwd.getpwuid
        try:
            return str(find(number)[0])
        except KeyError:
            return f"{'group' if group else 'user'} {number}"
