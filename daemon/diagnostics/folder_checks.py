"""Checks of `hotlap doctor`: the project's folders and its path."""

from __future__ import annotations

import os
from collections.abc import Iterator

from daemon.diagnostics.reports import Finding
from daemon.rollouts.misplaced import find_misplaced
from daemon.runtime.project_folder import long_path_problem
from daemon.security.permissions import check_folders
from schemas.errors import HotlapError
from schemas.storage.layout import ProjectPaths, is_rollout_name
from schemas.storage.windows_paths import shown_path

SYNCED = ("onedrive", "dropbox", "google drive", "googledrive", "icloud", "nextcloud")


def check_folders_of(paths: ProjectPaths, *, allow_shared: bool) -> Iterator[Finding]:
    """Check the folders of a project, and the length of its path."""
    if not paths.training.exists():
        yield Finding("note", "folders", "Saved/Training does not exist yet; the daemon creates it at its first start")
    else:
        yield from _folder_permissions(paths)
    try:
        if not allow_shared:
            check_folders(paths)
    except HotlapError as error:
        yield Finding("wrong", "folders", error.line())
    if too_long := long_path_problem(paths):
        yield Finding("note", "folders", f"{too_long} [W_LONG_PATH]")
    if any(word in part.lower() for part in paths.project.parts for word in SYNCED):
        text = "a sync service seems to copy this folder and may damage the ledger -> move the project"
        yield Finding("note", "folders", text)


def _folder_permissions(paths: ProjectPaths) -> Iterator[Finding]:
    refused = [f for f in paths.folders() if f.is_dir() and not os.access(f, os.R_OK | os.W_OK | os.X_OK)]
    missing = [f for f in paths.folders() if not f.is_dir()]
    for folder in refused:
        text = f"{shown_path(folder)} cannot be written -> correct its permissions, or run the daemon as its owner"
        yield Finding("wrong", "folders", text)
    for folder in missing:
        yield Finding("note", "folders", f"{folder.name} is missing; the daemon creates it at its next start")
    if not refused and not missing:
        yield Finding("ok", "folders", "all exist and can be written")
    has_rollouts = paths.exports.is_dir() and any(is_rollout_name(path.name) for path in paths.exports.iterdir())
    for kind in find_misplaced(paths.exports):
        yield Finding("note" if has_rollouts else "wrong", "exports", kind.sentence())
    leftovers = sum(1 for _ in paths.exports.glob("*.tmp")) if paths.exports.is_dir() else 0
    if leftovers:
        text = f"{leftovers} .tmp files, left by an engine that was stopped -> remove them while no engine runs"
        yield Finding("note", "exports", text)
