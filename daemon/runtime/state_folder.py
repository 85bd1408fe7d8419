"""Where State is: in Saved/Training, or in the folder of the setting daemon.state_dir."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from daemon.errors import DaemonError
from daemon.runtime.project_mark import is_same_folder, local_path, read_mark
from schemas.settings.models import DaemonSettings
from schemas.storage.layout import MARK_NAME, ProjectPaths
from schemas.storage.windows_paths import absolute_path, real_path, shown_path


def with_state_setting(paths: ProjectPaths, settings: DaemonSettings) -> ProjectPaths:
    """Return the paths with the State that the settings name. Raises DaemonError (E_PROJECT) if it cannot be used."""
    paths = replace(paths, state_folder=None)
    if not settings.state_dir:
        return paths
    folder = absolute_path(paths.project / os.path.expanduser(settings.state_dir))  # noqa: PTH111  it never raises
    if real_path(folder) == real_path(paths.state):
        return paths
    for other in (paths.exports, paths.rejected, paths.models, paths.logs, paths.state):
        if real_path(folder).is_relative_to(real_path(other)):
            text = f"daemon.state_dir is {shown_path(folder)}, which is in {other.name}"
            raise DaemonError(text, hint="name a folder that nothing else uses", code="E_PROJECT")
    if real_path(paths.training).is_relative_to(real_path(folder)):
        text = f"daemon.state_dir is {shown_path(folder)}, which contains Saved/Training"
        raise DaemonError(text, hint="name a folder that nothing else uses", code="E_PROJECT")
    if (owner := enclosing_training(folder)) is not None and owner != paths.training:
        text = f"daemon.state_dir is {shown_path(folder)}, which is in the project {shown_path(owner.parents[1])}"
        raise DaemonError(text, hint="name a folder that nothing else uses", code="E_PROJECT")
    found = replace(paths, state_folder=folder)
    if paths.ledger.is_file() and not found.ledger.exists():
        raise DaemonError(
            f"daemon.state_dir is {shown_path(folder)}, but this project's State is {shown_path(paths.state)}",
            hint=f"move all files from {shown_path(paths.state)} to {shown_path(folder)}, or remove the setting",
            code="E_PROJECT",
        )
    return found


def enclosing_training(folder: Path) -> Path | None:
    """Return the folder Saved/Training, of a project that Hotlap has used, that contains a folder; or None."""
    for parent in folder.parents:
        names = [name.lower() for name in parent.parts[-2:]]
        is_used = (parent / "State").is_dir() or (parent / "Models" / MARK_NAME).is_file()
        if names == ["saved", "training"] and is_used:
            return parent
    return None


def with_marked_state(paths: ProjectPaths) -> ProjectPaths:
    """Return the paths with the State that the mark in Models names, for commands that read no settings."""
    if paths.ledger.exists():
        return paths
    mark = read_mark(paths.project_mark)
    if mark is None or (state := local_path(mark.state)) == paths.state:
        return paths
    there = read_mark(state / MARK_NAME)
    is_own = there is not None and there.id == mark.id and is_same_folder(local_path(mark.models), paths.models)
    return replace(paths, state_folder=state) if is_own else paths
