"""Finds the project folder of a command: the argument of `--project`, or the current folder if it is a project."""

from __future__ import annotations

from pathlib import Path

from daemon.errors import DaemonError
from schemas.program.commands import quoted
from schemas.settings.loading import CONFIG_NAME
from schemas.storage.layout import ProjectPaths

ENGINE_FILES = ("*.uproject", "project.godot", "ProjectSettings", "*.yyp", "game.project")
"""Files that identify a project folder of Unreal, Godot, Unity, GameMaker and Defold."""


_INNER = ("exports", "rejected", "models", "logs", "state", "receipts")


def project_paths(folder: Path) -> ProjectPaths:
    """Return the paths in a project folder. Raises DaemonError if it does not exist or is a folder inside a project."""
    if not folder.is_dir():
        problem, hint = ("is not a folder", f"name its folder: `--project {quoted(str(folder.parent))}`")
        if not folder.exists():
            problem, hint = "does not exist", "create it, or correct --project"
        raise DaemonError(f"the project folder {folder} {problem}", hint=hint, code="E_PROJECT")
    paths = ProjectPaths(folder.resolve())
    if (project := enclosing_project(paths.project)) is not None:
        raise DaemonError(
            f"{paths.project} is a folder inside the project {project}",
            hint=f"name the project's folder: `--project {quoted(str(project))}`",
            code="E_PROJECT",
        )
    try:
        str(paths.project).encode("utf-8")
    except UnicodeEncodeError:
        raise DaemonError(
            f"the project's path {paths.project} is not valid UTF-8, so the pointer file cannot contain a model's path",
            hint="rename the folder, or use a UTF-8 locale",
            code="E_PROJECT",
        ) from None
    return paths


def enclosing_project(folder: Path) -> Path | None:
    """Return the project that `folder` is the Saved, Training, Exports, ... folder of; None if it is none of these."""
    if (folder / "Saved").is_dir():
        return None
    names = [name.lower() for name in folder.parts]
    if names[-1:] == ["saved"]:
        is_inner = (folder / "Training").is_dir() or has_engine_file(folder.parent)
        return folder.parent if is_inner else None
    if names[-2:] == ["saved", "training"]:
        return folder.parents[1]
    return folder.parents[2] if names[-3:-1] == ["saved", "training"] and names[-1] in _INNER else None


def has_engine_file(folder: Path) -> bool:
    """Return whether a folder contains an engine's project file."""
    return any(next(folder.glob(pattern), None) is not None for pattern in ENGINE_FILES)


def note_without_engine_file(folder: Path) -> str | None:
    """Return a note if a folder contains no engine's project file, with the folder that does if one is near."""
    if has_engine_file(folder):
        return None
    near = [*(path for path in sorted(folder.glob("*/")) if path.is_dir()), *list(folder.parents)[:2]]
    found = next((path for path in near if has_engine_file(path)), None)
    text = "the project folder contains no engine's project file (.uproject, project.godot, ProjectSettings ...)"
    if found is None:
        return f"{text}: correct if your engine has none, else name the game's folder with --project"
    return f"{text} -> did you mean `--project {quoted(str(found))}`?"


def is_project(folder: Path) -> bool:
    """Return whether a folder belongs to a game: it contains Saved/, daemon.toml, or an engine's project file."""
    if (folder / "Saved").is_dir() or (folder / CONFIG_NAME).is_file():
        return True
    return has_engine_file(folder)


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
