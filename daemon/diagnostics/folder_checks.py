"""The checks of `hotlap doctor` on folders, the disk, and the path that the engine sees."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from daemon.diagnostics.violation import Finding
from daemon.ledger.ledger import Ledger
from daemon.publishing.disk_budget import measure
from daemon.rollouts.misplaced import find_misplaced
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.in_the_way import find_in_the_way
from daemon.runtime.own_folders import count_hard_links, find_obstacles, linked_exports_note
from daemon.runtime.project_folder import long_path_problem, other_path_note
from daemon.runtime.project_mark import find_conflict
from daemon.security.permissions import check_folders
from schemas.errors import HotlapError
from schemas.settings.models import Settings
from schemas.storage.layout import ProjectPaths, is_rollout_name
from schemas.storage.windows_paths import shown_path

LOW_DISK_BYTES = 1_000_000_000


SOON_DAYS = 3.0


SYNCED = ("onedrive", "dropbox", "google drive", "googledrive", "icloud", "nextcloud")


def check_project_folders(paths: ProjectPaths, settings: Settings) -> Iterator[Finding]:
    """Check that the folders exist and can be written, and that the disk has space."""
    if not paths.training.exists():
        yield Finding("note", "folders", "Saved/Training does not exist yet; the daemon creates it at its first start")
    else:
        yield from _folder_permissions(paths)
    yield from _links(paths, settings)
    try:
        if not settings.daemon.allow_shared:
            check_folders(paths)
    except HotlapError as error:
        yield Finding("wrong", "folders", error.line())
    if too_long := long_path_problem(paths):
        yield Finding("note", "folders", f"{too_long} [W_LONG_PATH]")
    if any(word in part.lower() for part in paths.project.parts for word in SYNCED):
        text = "a sync service seems to copy this folder and may damage the ledger -> move the project"
        yield Finding("note", "folders", text)
    free = shutil.disk_usage(paths.project).free
    remedy = "" if free >= LOW_DISK_BYTES else " -> free some space: no cycle starts without it"
    yield Finding("wrong" if remedy else "ok", "disk", f"{free / 1e9:.1f} GB free{remedy}")


def check_engine_path(paths: ProjectPaths) -> Iterator[Finding]:
    """Check under which path the engine sees the project."""
    if paths.engine_project:
        as_seen = paths.for_engine(paths.pointer)
        yield Finding("ok", "engine path", f"models are named as the engine sees them; it reads {as_seen}")
    elif note := other_path_note(paths.project):
        yield Finding("note", "engine path", note)


def _links(paths: ProjectPaths, settings: Settings) -> Iterator[Finding]:
    """Check that no folder or file of Hotlap is a link, and that Models and State belong to this project alone."""
    obstacles, conflict = find_obstacles(paths), find_conflict(paths)
    for obstacle in obstacles:
        yield Finding("wrong", "links", f"{obstacle.sentence(paths.project)} [E_LINK]")
    if conflict is not None:
        yield Finding("wrong", "project", f"{conflict[0]} -> {conflict[1]} [E_OTHER_PROJECT]")
    removes = settings.daemon.clear_exports_after_training or settings.daemon.max_export_files > 0
    if note := linked_exports_note(paths, removes=removes):
        yield Finding("note", "links", note)
    if shared := count_hard_links(paths):
        text = f"{shared} files in State and Logs have another name as well; the next start replaces them by copies"
        yield Finding("note", "links", text)
    if not obstacles and conflict is None and paths.training.is_dir():
        yield Finding("ok", "links", "Hotlap's folders are not links, and belong to this project alone")


def _folder_permissions(paths: ProjectPaths) -> Iterator[Finding]:
    refused = [f for f in paths.folders() if f.is_dir() and not os.access(f, os.R_OK | os.W_OK | os.X_OK)]
    blocked = find_in_the_way(paths)
    for path in blocked:
        text = f"{shown_path(path)} has the name of a {'file' if path.is_dir() else 'folder'} of Hotlap, but is not one"
        yield Finding("wrong", "folders", f"{text} -> start the daemon, which moves it aside")
    missing = [f for f in paths.folders() if not os.path.lexists(f)]
    for folder in refused:
        text = f"{shown_path(folder)} cannot be written -> correct its permissions, or run the daemon as its owner"
        yield Finding("wrong", "folders", text)
    for folder in missing:
        yield Finding("note", "folders", f"{folder.name} is missing; the daemon creates it at its next start")
    if not refused and not missing and not blocked:
        yield Finding("ok", "folders", "all exist and can be written")
    has_rollouts = paths.exports.is_dir() and any(is_rollout_name(path.name) for path in paths.exports.iterdir())
    for kind in find_misplaced(paths.exports):
        yield Finding("note" if has_rollouts else "wrong", "exports", kind.sentence())
    leftovers = sum(1 for _ in paths.exports.glob("*.tmp")) if paths.exports.is_dir() else 0
    if leftovers:
        text = f"{leftovers} .tmp files, left by an engine that was stopped -> remove them while no engine runs"
        yield Finding("note", "exports", text)


def check_disk_use(paths: ProjectPaths, ledger: Ledger, settings: Settings) -> Iterator[Finding]:
    """Report what rollouts and caches take of the disk, with a forecast."""
    with contextlib.suppress(OSError):  # a missing folder is reported by `check_project_folders`
        use = measure(paths, ledger, REAL_CLOCK, budget_gb=settings.daemon.disk_budget_gb)
        days = use.days_left
        is_soon = use.disk_is_full_first and days is not None and days < SOON_DAYS
        yield Finding("note" if is_soon else "ok", "disk use", use.sentence())
