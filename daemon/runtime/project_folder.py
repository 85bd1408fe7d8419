"""Finds the project folder of a command: the argument of `--project`, or the current folder if it is a project."""

from __future__ import annotations

import sys
from pathlib import Path

from daemon.errors import DaemonError
from schemas.settings.loading import CONFIG_NAME
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import LONGEST_PATH, absolute_path, engine_path, reserved_part, shown_path

ENGINE_FILES = ("*.uproject", "project.godot", "ProjectSettings", "*.yyp", "game.project")
"""Files that identify a project folder of Unreal, Godot, Unity, GameMaker and Defold."""

_LONGEST_OF_AN_ENGINE = "/Saved/Training/Exports/rollout_1000_20241225_143022.json.tmp"


def project_paths(folder: Path) -> ProjectPaths:
    """Return the paths in a project folder. Raises DaemonError if it does not exist."""
    _require_usable_name(folder)
    paths = ProjectPaths(absolute_path(folder))
    if not paths.project.is_dir():
        problem = "is not a folder" if paths.project.exists() else "does not exist"
        raise DaemonError(
            f"the project folder {shown_path(folder)} {problem}",
            hint="create it, or correct --project",
            code="E_PROJECT",
        )
    try:
        str(paths.project).encode("utf-8")
    except UnicodeEncodeError:
        raise DaemonError(
            f"the project's path {shown_path(paths.project)} is not valid UTF-8, so the pointer file cannot contain a"
            " model's path",
            hint="rename the folder, or use a UTF-8 locale",
            code="E_PROJECT",
        ) from None
    return paths


def _require_usable_name(folder: Path) -> None:
    part = reserved_part(str(folder)) if sys.platform == "win32" else None
    if part is not None:
        raise DaemonError(
            f"the path of the project folder {shown_path(folder)} contains {part!r}, which programs on Windows cannot"
            " open",
            hint="rename that folder: a name cannot be that of a device, such as AUX, or end with a dot or a space",
            code="E_PROJECT",
        )


def long_path_problem(paths: ProjectPaths) -> str | None:
    """Return why an engine may be unable to open the files of a project on Windows, or None."""
    return describe_long_path(len(engine_path(paths.project))) if sys.platform == "win32" else None


def describe_long_path(characters: int) -> str | None:
    """Return the message about a project's path of this many characters; None if it is short enough."""
    allowed = LONGEST_PATH - len(_LONGEST_OF_AN_ENGINE)
    if characters <= allowed:
        return None
    return (
        f"the project's path has {characters} characters, so its files have paths of more than {LONGEST_PATH}: engines"
        " that do not support long paths cannot open them -> move the project to a folder whose path has at most"
        f" {allowed} characters"
    )


def is_project(folder: Path) -> bool:
    """Return whether a folder belongs to a game: it contains Saved/, daemon.toml, or an engine's project file."""
    if (folder / "Saved").is_dir() or (folder / CONFIG_NAME).is_file():
        return True
    return any(next(folder.glob(pattern), None) is not None for pattern in ENGINE_FILES)


def find_project(given: Path | None, command: str = "") -> ProjectPaths:
    """Return the paths of a command's project.

    The folder `given` by `--project` may be empty. The current folder must be a project already, so that a command in
    a wrong folder fails and creates nothing there. Raises DaemonError (E_PROJECT).
    """
    if given is not None:
        return project_paths(given)
    try:
        here = Path.cwd()
    except OSError:
        raise DaemonError(
            "the current folder does not exist any more", hint="change to the game's folder", code="E_PROJECT"
        ) from None
    if is_project(here):
        return project_paths(here)
    above = next((folder for folder in here.parents if (folder / "Saved" / "Training").is_dir()), None)
    words = ["hotlap", *filter(None, [command]), "--project", shown_path(above or "DIR")]
    raise DaemonError(
        f"{shown_path(here)} is not a game's project: it contains no Saved folder, no {CONFIG_NAME} and no engine's"
        " project file",
        hint=f"name the game's folder: `{' '.join(words)}` (`--project .` uses this one)",
        code="E_PROJECT",
    )
