"""Checks whether another user can change the settings file or the project's folders."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from daemon.errors import DaemonError
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path


def check_config(path: Path) -> None:
    """Raise DaemonError (E_SHARED_CONFIG) if another user can change the settings file."""
    _check(path, "the config file", "E_SHARED_CONFIG")
    target = path.resolve()
    if target != path.absolute():
        _check(target, "the config file", "E_SHARED_CONFIG")


def check_folders(paths: ProjectPaths) -> None:
    """Raise DaemonError (E_SHARED_FOLDER) if another user can change one of the project's folders."""
    for folder in (paths.project, paths.project / "Saved", paths.training, paths.models, paths.state):
        if folder.is_symlink() or folder.exists():
            _check(folder, "the folder", "E_SHARED_FOLDER")


def _check(path: Path, what: str, code: str) -> None:
    reason = others_can_write(path)
    if reason is not None:
        raise DaemonError(
            f"{what} {shown_path(path)} {reason}",
            hint=f"`chmod go-w {path}`, or --allow-shared if you trust everybody who can write there",
            code=code,
        )


if sys.platform == "win32":

    def others_can_write(_path: Path) -> str | None:
        """Return None, because mode bits do not show who can write on Windows."""
        return None

else:
    import grp
    import pwd

    def others_can_write(path: Path) -> str | None:
        """Return why a user other than this one and root can write to a path; None if no other user can.

        Also None if the path does not exist, if only a group without other members can write (umask 002 creates such
        files), or if it is a folder with the sticky bit, such as /tmp.
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
        """Return whether a group has its user's name and no other member."""
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
