"""Finds the project folder of a command: the argument of `--project`, or the current folder if it is a project."""

from __future__ import annotations

from pathlib import Path

from daemon.errors import DaemonError
from schemas.settings.loading import CONFIG_NAME
from schemas.storage.layout import ProjectPaths

ENGINE_FILES = ("*.uproject", "project.godot", "ProjectSettings", "*.yyp", "game.project")
"""Files that identify a project folder of Unreal, Godot, Unity, GameMaker and Defold."""


def project_paths(folder: Path) -> ProjectPaths:
    """Return the paths in a project folder. Raises DaemonError if it does not exist."""
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise DaemonError(
            f"the project folder {folder} {problem}", hint="create it, or correct --project", code="E_PROJECT"
        )
    paths = ProjectPaths(folder.resolve())
    try:
        str(paths.project).encode("utf-8")
    except UnicodeEncodeError:
        raise DaemonError(
            f"the project's path {paths.project} is not valid UTF-8, so the pointer file cannot contain a model's path",
            hint="rename the folder, or use a UTF-8 locale",
            code="E_PROJECT",
        ) from None
    return paths


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
    raise DaemonError(
        f"{here} is not a game's project: it contains no Saved folder, no {CONFIG_NAME} and no engine's project file",
        hint=f"name the game's folder: `{' '.join(filter(None, ('hotlap', command)))} --project {above or 'DIR'}`"
        " (`--project .` uses this one)",
        code="E_PROJECT",
    )
