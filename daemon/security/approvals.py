"""A settings file may name programs to run: none does so before the user has said yes to it.

An approval is a small file in the user's own configuration folder, named by a hash of the project's path and of what
the settings name: so it cannot come with a project, and a changed value asks again. What the user gives as a variable
or a flag needs none, nor do the defaults.
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
from daemon.security.permissions import check_config, check_folders, others_can_write
from schemas.settings.loading import LoadedSettings
from schemas.storage.files import sha256_of, write_atomic
from schemas.storage.layout import ProjectPaths

COMMANDS = ("daemon.python_executable", "daemon.training_script", "trainer.network", "trainer.loss")
"""The settings that name something to run."""


def commands_of(loaded: LoadedSettings) -> dict[str, str]:
    """Return what the settings file has run: dotted name -> value. Empty where it names nothing, or our own Python."""
    found = {}
    for name in COMMANDS:
        group, _, key = name.partition(".")
        value = str(getattr(getattr(loaded.settings, group), key))
        if name in loaded.from_file and value and not (key == "python_executable" and _is_ours(value)):
            found[name] = value
    return found


def _is_ours(executable: str) -> bool:
    return executable == sys.executable


def check_before_running(project: Path, loaded: LoadedSettings, *, folders: bool = True) -> None:
    """Refuse to start where another user could have a say in it, or the settings name what nobody approved.

    Without `folders` only the settings are looked at: a demo makes a folder of its own.
    Raises DaemonError. Nothing is executed here; what is not there at all is left for the start to say.
    """
    if not loaded.settings.daemon.allow_shared:
        if loaded.config is not None:
            check_config(loaded.config)
        if folders:
            check_folders(ProjectPaths(project.resolve()))
    check_launch(loaded.settings.daemon, project)
    check_trust(project, loaded)


def check_trust(project: Path, loaded: LoadedSettings) -> None:
    """Refuse to run what the user has not approved. Raises DaemonError (E_UNTRUSTED)."""
    commands = commands_of(loaded)
    if not commands or is_approved(project, commands):
        return
    wants = ", ".join(f"{name} = {value!r}" for name, value in commands.items())
    file = loaded.config.name if loaded.config else "the config"
    raise DaemonError(
        f"{file} wants to run what you have not approved: {wants}",
        hint="if you know it, `hotlap trust` with the same --project approves it",
        code="E_UNTRUSTED",
    )


def approvals_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of this user's approvals. Raises DaemonError where the user has no home."""
    given = os.environ if environment is None else environment
    named = [given.get("XDG_CONFIG_HOME"), given.get("APPDATA") if sys.platform == "win32" else None]
    for base in filter(None, named):
        return Path(base) / "hotlap" / "trusted"
    try:
        home = Path.home()
    except RuntimeError:
        raise DaemonError("this user has no home folder", hint="set HOME", code="E_NO_HOME") from None
    usual = "Library/Application Support" if sys.platform == "darwin" else ".config"
    return home / usual / "hotlap" / "trusted"


def approval_path(project: Path, commands: Mapping[str, str]) -> Path:
    """Return where the approval of these commands in this project lies."""
    what = orjson.dumps([str(project.resolve()), dict(commands)], option=orjson.OPT_SORT_KEYS)
    return approvals_folder() / f"{sha256_of(what)}.json"


def is_approved(project: Path, commands: Mapping[str, str]) -> bool:
    """Return whether the user approved exactly this. An approval that others could have written is none."""
    path = approval_path(project, commands)
    return path.is_file() and others_can_write(path) is None and others_can_write(path.parent) is None


def approve(project: Path, commands: Mapping[str, str]) -> Path:
    """Remember the user's yes; give where. Raises OSError."""
    path = approval_path(project, commands)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {"project": str(project.resolve()), "commands": dict(commands), "approved_s": REAL_CLOCK.utc_s()}
    write_atomic(path, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path


def revoke(project: Path, commands: Mapping[str, str]) -> bool:
    """Take the yes back; tell whether there was one. Raises OSError."""
    path = approval_path(project, commands)
    was_there = path.is_file()
    path.unlink(missing_ok=True)
    return was_there
