"""Approvals: a program that a settings file names runs only after the user has approved it.

An approval is a small file in the user's own configuration folder, named by a hash of the project's path and of the
values in the settings file. So a project cannot contain its own approval, and a changed value needs a new one. Values
from variables and flags, and defaults, need no approval.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from daemon.errors import DaemonError
from daemon.process.interpreter import check_launch
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.state_folder import with_state_setting
from daemon.security.permissions import check_config, check_folders, others_can_write
from schemas.settings.loading import LoadedSettings
from schemas.storage.files import sha256_of, unlink_with_retries, write_atomic
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import absolute_path, real_path

PROGRAM_SETTINGS = ("daemon.python_executable", "daemon.training_script", "trainer.network", "trainer.loss")
"""The settings whose values are programs or Python objects to run."""


def programs_of(loaded: LoadedSettings) -> dict[str, str]:
    """Return setting -> value for the programs in the settings file, without the Python that runs the daemon."""
    found = {}
    for name in PROGRAM_SETTINGS:
        group, _, key = name.partition(".")
        value = str(getattr(getattr(loaded.settings, group), key))
        if name in loaded.from_file and value and not (key == "python_executable" and value == sys.executable):
            found[name] = value
    return found


def check_before_running(project: Path, loaded: LoadedSettings, *, folders: bool = True) -> None:
    """Raise DaemonError if another user can change the settings or the project, or if a program is not approved.

    No program is run. Without `folders`, the project's folders are not checked: a demo creates its own.
    """
    if not loaded.settings.daemon.allow_shared:
        if loaded.config is not None:
            check_config(loaded.config)
        if folders:
            check_folders(with_state_setting(ProjectPaths(absolute_path(project)), loaded.settings.daemon))
    check_launch(loaded.settings.daemon, project)
    check_approved(project, loaded)


def check_approved(project: Path, loaded: LoadedSettings) -> None:
    """Raise DaemonError (E_UNTRUSTED) if the settings file names a program that the user has not approved."""
    programs = programs_of(loaded)
    if not programs or is_approved(project, programs):
        return
    named = ", ".join(f"{name} = {value!r}" for name, value in programs.items())
    file = loaded.config.name if loaded.config else "the config file"
    raise DaemonError(
        f"{file} names a program that you have not approved: {named}",
        hint="if you trust it, approve it: `hotlap trust` with the same --project",
        code="E_UNTRUSTED",
    )


def approvals_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of this user's approvals. Raises DaemonError if the user has no home folder."""
    variables = os.environ if environment is None else environment
    bases = [variables.get("XDG_CONFIG_HOME"), variables.get("APPDATA") if sys.platform == "win32" else None]
    for base in filter(None, bases):
        return Path(base) / "hotlap" / "trusted"
    try:
        home = Path.home()
    except RuntimeError:
        raise DaemonError(
            "this user has no home folder", hint="set the environment variable HOME", code="E_NO_HOME"
        ) from None
    usual = "Library/Application Support" if sys.platform == "darwin" else ".config"
    return home / usual / "hotlap" / "trusted"


def approval_path(project: Path, programs: Mapping[str, str]) -> Path:
    """Return the path of the approval file for these programs in this project."""
    approved = orjson.dumps([str(real_path(project)), dict(programs)], option=orjson.OPT_SORT_KEYS)
    return approvals_folder() / f"{sha256_of(approved)}.json"


def is_approved(project: Path, programs: Mapping[str, str]) -> bool:
    """Return whether the user has approved these programs. A file that another user can write is not an approval."""
    path = approval_path(project, programs)
    return path.is_file() and others_can_write(path) is None and others_can_write(path.parent) is None


def approve(project: Path, programs: Mapping[str, str]) -> Path:
    """Write an approval file and return its path. Raises OSError."""
    path = approval_path(project, programs)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {"project": str(real_path(project)), "commands": dict(programs), "approved_s": REAL_CLOCK.utc_s()}
    write_atomic(path, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path


def revoke(project: Path, programs: Mapping[str, str]) -> bool:
    """Remove an approval file and return whether it existed. Raises OSError."""
    path = approval_path(project, programs)
    existed = path.is_file()
    unlink_with_retries(path)
    return existed
