"""Finds the project folder of a command: the argument of `--project`, or the current folder if it is a project."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from daemon.errors import DaemonError
from daemon.runtime.state_folder import enclosing_training, with_marked_state
from schemas.program.commands import quoted
from schemas.settings.loading import CONFIG_NAME
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import LONGEST_PATH, absolute_path, engine_path, reserved_part, shown_path

ENGINE_FILES = ("*.uproject", "project.godot", "ProjectSettings", "*.yyp", "game.project")
"""Files that identify a project folder of Unreal, Godot, Unity, GameMaker and Defold."""

_LONGEST_OF_AN_ENGINE = "/Saved/Training/Exports/rollout_1000_20241225_143022.json.tmp"


_INNER = ("exports", "rejected", "models", "logs", "state", "receipts")


def project_paths(folder: Path) -> ProjectPaths:
    """Return the paths in a project folder. Raises DaemonError if it does not exist or is a folder inside a project."""
    _require_usable_name(folder)
    paths = ProjectPaths(absolute_path(folder))
    if not paths.project.is_dir():
        problem, hint = ("is not a folder", f"name its folder: `--project {quoted(shown_path(folder.parent))}`")
        if not paths.project.exists():
            problem, hint = "does not exist", "create it, or correct --project"
        raise DaemonError(f"the project folder {shown_path(folder)} {problem}", hint=hint, code="E_PROJECT")
    if (project := enclosing_project(paths.project)) is not None:
        raise DaemonError(
            f"{shown_path(paths.project)} is a folder inside the project {shown_path(project)}",
            hint=f"name the project's folder: `--project {quoted(shown_path(project))}`",
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
    return with_marked_state(paths)


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


def enclosing_project(folder: Path) -> Path | None:
    """Return the project that `folder` is the Saved, Training, Exports, ... folder of, or is below; or None."""
    if (training := enclosing_training(folder)) is not None:
        return training.parents[1]
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
    return f"{text} -> did you mean `--project {quoted(shown_path(found))}`?"


def other_path_note(project: Path) -> str | None:
    """Return a note if an engine on this machine probably sees the project under another path than this process."""
    version = Path("/proc/version")
    is_wsl = version.is_file() and "microsoft" in version.read_text(errors="replace").lower()
    is_container = any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv"))
    return describe_other_path(str(project), is_wsl=is_wsl, is_container=is_container)


def describe_other_path(project: str, *, is_wsl: bool, is_container: bool) -> str | None:
    """Return the note about a project in WSL or in a container, with the setting that an engine outside needs."""
    set_to = "if the engine runs outside, set daemon.engine_path"
    if is_wsl:
        drive = re.match(r"/mnt/([a-z])(?:/|$)(.*)", project)
        seen_as = f"{drive[1].upper()}:/{drive[2]}" if drive else "//wsl.localhost/<distribution>" + project
        return f'the daemon runs in WSL; an engine on Windows sees this project as {seen_as} -> {set_to} = "{seen_as}"'
    if is_container:
        return f"the daemon runs in a container -> {set_to} to the project's path on that machine"
    return None


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
    words = ["hotlap", *filter(None, [command]), "--project", shown_path(above or "DIR")]
    raise DaemonError(
        f"{shown_path(here)} is not a game's project: it contains no Saved folder, no {CONFIG_NAME} and no engine's"
        " project file",
        hint=f"name the game's folder: `{' '.join(words)}` (`--project .` uses this one)",
        code="E_PROJECT",
    )
