"""Keeps the files of other programs: before Hotlap uses a name in Models, a file that is not Hotlap's is moved away.

A file in Models is Hotlap's if the ledger has its content. All others with names that Hotlap uses are moved, intact, to
Models/before_hotlap_<date>. As long as the pointer file names one of them, that one stays in its place as well, so that
an engine never finds a pointer to a missing file. The ledger remembers the folder until everything is moved, so the
next start continues in the same folder after a crash.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from daemon.publishing.pointer import names_a_cycle
from daemon.runtime.context import Context
from daemon.runtime.in_the_way import is_folder
from schemas.errors import HotlapError
from schemas.storage.careful_open import open_regular
from schemas.storage.files import read_with_retries, sha256_of, unlink_with_retries
from schemas.storage.held_open import may_be_held_open, retry_while_held_open
from schemas.storage.set_aside import MODEL_NAME, copy_to, is_model_name, is_same_content, move_to, new_folder
from schemas.storage.windows_paths import error_text

CODE = "W_SET_ASIDE"
_FOLDER_KEY = "set_aside"
"""The key in the ledger of the folder that files are being moved to."""
_CYCLE_FOLDER = re.compile(r"cycle_[0-9]{6,9}", re.IGNORECASE)
"""Names of Hotlap's cycle folders, also on disks that ignore case. Longer numbers are not used."""
_STATUS_MARKER = b"hotlap.status/"
_MAX_POINTER_BYTES = 1 << 20
_NO_LIMIT = 1 << 62  #: bytes


class ForeignFiles:
    """The files of other programs in Models, for `publish`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.unreadable: frozenset[str] = frozenset()

    def set_aside(self) -> frozenset[str]:
        """Move those that are in the way; return the names of Hotlap's own models and checkpoints in Models.

        Those that cannot be moved stay, and do not hold a model back from the engine.
        """
        self.unreadable = unreadable_models(self._context)
        set_aside_or_warn(self._context, leave=self.unreadable)
        self.unreadable |= _names_in_the_way(self._context, self.unreadable)
        return own_models(self._context, leave=self.unreadable)

    def set_aside_folder(self, folder: Path) -> None:
        """Move what is in the place of a cycle's folder. Raises OSError."""
        context, target = self._context, _folder_for(self._context, folder)
        assert target is not None
        move_to(target, folder, disk=context.disk)
        context.warn(CODE, _report(context, [target / folder.name], None))

    def remove_copied(self) -> None:
        """Remove the originals that stayed because the pointer file named them."""
        with contextlib.suppress(OSError, HotlapError):  # the next publish tries again
            remove_copied(self._context, leave=self.unreadable)


def unreadable_models(context: Context) -> frozenset[str]:
    """Return the names in Models of files that cannot be read, because a program on Windows shares nothing of them.

    It is not known whether they are Hotlap's, so they must stay as they are.
    """
    if sys.platform != "win32":
        return frozenset()
    models = [path for path in context.paths.models.iterdir() if is_model_name(path.name)]
    return frozenset(path.name for path in models if _is_unreadable(context, path))


def _is_unreadable(context: Context, path: Path) -> bool:
    try:
        retry_while_held_open(lambda: os.close(open_regular(path, os.O_RDONLY)), pause=context.disk.pause)
    except OSError as error:
        return may_be_held_open(error)
    return False


def set_aside(context: Context, *, leave: frozenset[str] | None = None) -> None:
    """Move the files of other programs that are in the way to a folder of their own, and report it in one line.

    `leave` contains names of `unreadable_models`.
    Raises OSError or HotlapError if one of them cannot be moved; the others are moved.
    """
    foreign = list(_foreign_files(context, unreadable_models(context) if leave is None else leave))
    if not foreign:
        return
    pointer = _foreign_pointer(context)
    moved, failure = [], None
    for path in foreign:
        is_named = pointer is not None and (path == context.paths.pointer or _names(pointer, path))
        try:
            mode = path.lstat().st_mode
            if is_named and stat.S_ISDIR(mode) and path != context.paths.pointer:
                continue  # it is moved when the pointer file names another model
            folder = _folder_for(context, path)
            if folder is None:
                continue  # it was copied before
            must_stay = is_named and stat.S_ISREG(mode)
            (copy_to if must_stay else move_to)(folder, path, disk=context.disk)
            moved.append(folder / path.name)
        except (OSError, HotlapError) as error:
            failure = failure or error
    if moved:
        for folder in {path.parent for path in moved}:
            context.disk.fsync_dir(folder)
        context.disk.fsync_dir(context.paths.models)
        context.warn(CODE, _report(context, moved, pointer))
    if failure is not None:
        raise failure


def set_aside_or_warn(context: Context, *, leave: frozenset[str] | None = None) -> None:
    """Do what `set_aside` does. If a file cannot be moved, warn; the next publish tries again."""
    try:
        set_aside(context, leave=leave)
    except (OSError, HotlapError) as error:
        context.warn(CODE, f"a file of another program in Models cannot be moved yet: {error_text(error)}")


def remove_copied(context: Context, *, leave: frozenset[str] | None = None) -> None:
    """Remove the originals that stayed for the engine. Call it after the pointer file names a model of Hotlap.

    A file that is held open is removed the next time.
    """
    name = context.ledger.meta(_FOLDER_KEY)
    if name is None or _foreign_pointer(context) is not None:
        return
    leave = unreadable_models(context) if leave is None else leave
    set_aside(context, leave=leave)
    left = [path for path in _foreign_files(context, leave) if not _remove_if_copied(context, path)]
    if not left:
        context.ledger.set_meta(_FOLDER_KEY, None)


def own_models(context: Context, *, leave: frozenset[str]) -> frozenset[str]:
    """Return the names of the checkpoints and models directly in Models that Hotlap wrote."""
    names = sorted(path.name for path in context.paths.models.iterdir() if path.name not in leave)
    paths = (context.paths.models / name for name in names if MODEL_NAME.fullmatch(name))
    return frozenset(path.name for path in paths if _is_known(context, path))


def first_free_cycle(context: Context) -> int:
    """Return a number above those of all cycle folders in Models that are not Hotlap's; 0 if all are."""
    numbers = (
        int(path.name.partition("_")[2])
        for path in context.paths.models.iterdir()
        if _CYCLE_FOLDER.fullmatch(path.name) and not _is_own_cycle(context, path)
    )
    return max(numbers, default=-1) + 1


def _names_in_the_way(context: Context, leave: frozenset[str]) -> frozenset[str]:
    """Return the names of models and checkpoints directly in Models that are not Hotlap's and exist only there."""
    name = context.ledger.meta(_FOLDER_KEY)
    foreign = (path for path in _foreign_files(context, leave) if is_model_name(path.name))
    return frozenset(
        path.name
        for path in foreign
        if name is None or not is_same_content(path, context.paths.models / name / path.name)
    )


def _foreign_files(context: Context, leave: frozenset[str]) -> Iterator[Path]:
    """Yield what is not Hotlap's and has a name that Hotlap uses."""
    paths = context.paths
    for path in sorted(paths.models.iterdir()):
        if path.name in leave:
            continue
        if path == paths.pointer:
            is_foreign = _foreign_pointer(context) is not None
        elif is_model_name(path.name):
            is_foreign = not _is_known(context, path)
        else:
            is_foreign = _CYCLE_FOLDER.fullmatch(path.name) is not None and not _is_own_cycle(context, path)
        if is_foreign:
            yield path
    if _is_foreign_status(paths.status):
        yield paths.status


def _is_known(context: Context, path: Path) -> bool:
    """Return whether the ledger has the content of a regular file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        return context.ledger.knows_file(sha256_of(read_with_retries(path, limit=_NO_LIMIT)))
    except FileNotFoundError:
        return True  # it was removed in the meantime
    except OSError:
        return False


def _is_own_cycle(context: Context, path: Path) -> bool:
    return path.is_dir() and context.ledger.has_result(int(path.name.partition("_")[2]))


def _is_foreign_status(path: Path) -> bool:
    try:
        data = read_with_retries(path, limit=_NO_LIMIT)
    except FileNotFoundError:
        return False
    except (OSError, HotlapError):
        return is_folder(path)
    return bool(data) and _STATUS_MARKER not in data


def _foreign_pointer(context: Context) -> bytes | None:
    """Return the content of the pointer file if another program wrote it, else None.

    Raises OSError if a program on Windows has it open and shares nothing.
    """
    try:
        data = read_with_retries(context.paths.pointer, limit=_MAX_POINTER_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, HotlapError) as error:
        if isinstance(error, OSError) and may_be_held_open(error):
            raise
        return b""
    return None if names_a_cycle(data) else data


def _names(pointer: bytes, path: Path) -> bool:
    return any(path.name.encode(encoding, "replace") in pointer for encoding in ("utf-8", "utf-16-le"))


def _folder_for(context: Context, path: Path) -> Path | None:
    """Return the folder to move a file to; None if a copy of the file is in it already."""
    models, name = context.paths.models, context.ledger.meta(_FOLDER_KEY)
    folder = None if name is None else models / name
    if folder is not None and is_same_content(path, folder / path.name):
        return None
    if folder is None or os.path.lexists(folder / path.name):
        folder = new_folder(models, at_s=context.clock.utc_s())
        context.ledger.set_meta(_FOLDER_KEY, folder.name)
    context.disk.make_folder(folder)
    return folder


def _remove_if_copied(context: Context, path: Path) -> bool:
    folder = context.paths.models / str(context.ledger.meta(_FOLDER_KEY))
    if not is_same_content(path, folder / path.name):
        return False
    try:
        unlink_with_retries(path, disk=context.disk)
    except OSError:
        return False
    return True


def _report(context: Context, moved: list[Path], pointer: bytes | None) -> str:
    """Return the line that reports the move and names the command that continues from a moved model."""
    models = [path for path in moved if MODEL_NAME.fullmatch(path.name)]
    named = next((path for path in models if pointer is not None and _names(pointer, path)), None)
    newest = max(models, key=lambda path: (path.lstat().st_mtime_ns, path.suffix == ".json"), default=None)
    place = moved[-1].parent.relative_to(context.paths.project).as_posix()
    many = "1 file" if len(moved) == 1 else f"{len(moved)} files"
    text = f"{many} in Models that Hotlap did not write: moved, unchanged, to {place}"
    example = named or newest
    if example is None:
        return text
    shown = example.relative_to(context.paths.project).as_posix()
    return f"{text} -> to continue from a model in it: `hotlap adopt {shown}`"
