"""The marks in Models and in State that state which project these folders belong to.

Both folders contain the same mark: the project's id, and the paths of its State and its Models. A project that was
moved, renamed or copied as a whole keeps working. Two ledgers that use one Models folder, or two projects that use one
State folder, do not: the second one is refused.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import sys
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from daemon.errors import DaemonError
from daemon.ledger.ledger import Ledger
from schemas.base import StrictModel
from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES
from schemas.storage.careful_open import is_link_at
from schemas.storage.files import REAL_DISK, Disk, read_with_retries, sha256_of, write_atomic
from schemas.storage.guarded import names_in
from schemas.storage.layout import LEDGER_NAME, MARK_NAME, ProjectPaths
from schemas.storage.windows_paths import shown_path, without_prefix
from schemas.text import printable

CODE = "E_OTHER_PROJECT"
_MAX_BYTES = 64 * 1024
_MADE_FIRST = frozenset({"cache", "staging", "commands", "daemon.lock"})
"""What a start creates in State before the mark."""
_NOWHERE = Path(__file__) / "nowhere"


class ProjectMark(StrictModel):
    """The content of a mark."""

    id: str
    state: str  #: the path of the project's State
    models: str  #: the path of the project's Models
    note: str = "written by Hotlap: this folder belongs to one project, whose State and Models are named here"
    schema_name: Literal["hotlap.project/1"] = "hotlap.project/1"


def read_mark(path: Path) -> ProjectMark | None:
    """Return a mark, or None if it does not exist or cannot be read."""
    try:
        return ProjectMark.from_bytes(read_with_retries(path, limit=_MAX_BYTES))
    except (OSError, HotlapError, ValidationError):
        return None


def require_own_project(paths: ProjectPaths) -> None:
    """Raise DaemonError (E_OTHER_PROJECT) if Models or State belongs to another project."""
    if (found := find_conflict(paths)) is not None:
        text, remedy = found
        raise DaemonError(text, hint=remedy, code=CODE)


def find_conflict(paths: ProjectPaths) -> tuple[str, str] | None:
    """Return why Models or State cannot be used by this project, and the remedy; None if both can."""
    own, mark = read_mark(paths.state_mark), read_mark(paths.project_mark)
    return _conflict_of_models(paths, own, mark) or _conflict_of_state(paths, own)


def _conflict_of_models(
    paths: ProjectPaths, own: ProjectMark | None, mark: ProjectMark | None
) -> tuple[str, str] | None:
    models = shown_path(paths.models)
    if mark is None:
        if not is_link_at(paths.models) or not names_in(paths.models) or _has_last_publication(paths):
            return None
        return (
            f"the link {models} leads to a folder that is not empty and is not marked as one of this project",
            "let the link lead to an empty folder, or remove the link",
        )
    if own is not None and mark.id != own.id:
        return (
            f"{models} belongs to another project, whose State is {_shown(mark.state)}",
            f"give each project its own Models; if this folder is now this project's, remove {MARK_NAME} in it",
        )
    other, their_models = local_path(mark.state), local_path(mark.models)
    is_same_models = is_same_folder(their_models, paths.models)
    if is_same_models and not is_same_folder(other, paths.state) and _has_ledger_of(other, mark.id):
        if paths.models == their_models and own is None:
            return (
                f"this project's State is {_shown(mark.state)}, not {shown_path(paths.state)}",
                f'set daemon.state_dir = "{_shown(mark.state)}", or move that folder to {shown_path(paths.state)}',
            )
        return (
            f"{models} is the Models folder of another project, whose State is {_shown(mark.state)}",
            "give each project its own Models; if that project was copied to this place, remove its old State",
        )
    return None


def _conflict_of_state(paths: ProjectPaths, own: ProjectMark | None) -> tuple[str, str] | None:
    state = shown_path(paths.state)
    if own is None:
        if paths.state_folder is None or _MADE_FIRST.issuperset(names_in(paths.state)):
            return None
        if not _has_last_publication(paths):
            return (
                f"daemon.state_dir is {state}, which is not empty and is not a State folder of Hotlap",
                "name an empty or new folder, or one that Hotlap has used as State",
            )
        return None
    models = local_path(own.models)
    if is_same_folder(local_path(own.state), paths.state) and not is_same_folder(models, paths.models):
        theirs = read_mark(models / MARK_NAME)
        if theirs is not None and theirs.id == own.id:
            return (
                f"{state} belongs to another project, whose Models is {_shown(own.models)}",
                "set another daemon.state_dir" if paths.state_folder else "give each project its own State",
            )
    return None


def write_marks(paths: ProjectPaths, *, disk: Disk = REAL_DISK) -> None:
    """Write the marks if they do not name this project's folders. Call it with the project's lock.

    Never raises OSError: a disk that is full or protected is reported elsewhere, and the next start tries again.
    """
    own, mark = read_mark(paths.state_mark), read_mark(paths.project_mark)
    wanted = ProjectMark(
        id=secrets.token_hex(16) if own is None else own.id, state=str(paths.state), models=str(paths.models)
    )
    with contextlib.suppress(OSError):
        if mark != wanted:  # first: a mark in State alone would not fit the old one in Models after a crash
            write_atomic(paths.project_mark, wanted.to_bytes(), disk=disk)
        if own != wanted:
            write_atomic(paths.state_mark, wanted.to_bytes(), disk=disk)


def local_path(text: str) -> Path:
    """Return the path in a mark, or one that does not exist if it must not be used.

    On Windows, opening a path of another machine would send it this user's login.
    """
    is_usable = Path(text).is_absolute() and (sys.platform != "win32" or without_prefix(text)[1:2] == ":")
    return Path(text) if is_usable else _NOWHERE


def is_same_folder(first: Path, second: Path) -> bool:
    """Return whether both paths lead to the same existing folder."""
    try:
        return first.samefile(second)
    except OSError:
        return False


def _has_ledger_of(state: Path, project_id: str) -> bool:
    """Return whether a State folder has a ledger and the mark of this project."""
    mark = read_mark(state / MARK_NAME)
    return mark is not None and mark.id == project_id and (state / LEDGER_NAME).is_file()


def _has_last_publication(paths: ProjectPaths) -> bool:
    """Return whether Models contains the model that the ledger says was published last, as before marks existed."""
    try:
        with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger:
            last = ledger.last_publication()
        return last is not None and last.sha256 == sha256_of(
            read_with_retries(paths.models / last.model, limit=MAX_MODEL_BYTES)
        )
    except (OSError, HotlapError, sqlite3.Error):
        return False


def _shown(path: str) -> str:
    return printable(shown_path(path))
