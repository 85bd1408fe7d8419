"""Paths as Windows, an engine and a user need them: long ones, forward slashes, names that Windows reserves."""

from __future__ import annotations

import ntpath
import os
import sys
from pathlib import Path, PureWindowsPath

LONGEST_PATH = 259
"""Characters of the longest path of a file that a program can open without support of long paths."""
LONGEST_FOLDER = 247
"""Characters of the longest path of a folder that can be created, or be a working folder, without the prefix."""
_LONGEST_NAME = 40
"""Characters of the longest name that a training script is expected to write."""
_PREFIX, _UNC_PREFIX = "\\\\?\\", "\\\\?\\UNC\\"
"""Windows allows 32,767 characters after this prefix, and takes the names literally: no `/`, `.` or `..`."""
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{n}" for port in ("COM", "LPT") for n in "123456789\u00b9\u00b2\u00b3"}
)


def with_prefix(path: str) -> str:
    r"""Return an absolute path of Windows with `\\?\` or `\\?\UNC\`."""
    if path.startswith((_PREFIX, "\\\\.\\")):
        return path
    normal = ntpath.normpath(path)
    return _UNC_PREFIX + normal[2:] if normal.startswith("\\\\") else _PREFIX + normal


def without_prefix(path: str) -> str:
    r"""Return a path of Windows without `\\?\` and `\\?\UNC\`. A path that needs them, as of a volume, is unchanged."""
    if path[: len(_UNC_PREFIX)].upper() == _UNC_PREFIX:
        return "\\\\" + path[len(_UNC_PREFIX) :]
    has_drive = path.startswith(_PREFIX) and path[len(_PREFIX) + 1 : len(_PREFIX) + 2] == ":"
    return path[len(_PREFIX) :] if has_drive else path


def prefixed_if_long(path: str, *, reserve: int = 0) -> str:
    """Return an absolute path of Windows, with the prefix if it leaves fewer than `reserve` characters for more."""
    return with_prefix(path) if len(path) + reserve > LONGEST_FOLDER else path


def with_forward_slashes(path: str) -> str:
    """Return a path of Windows as engines and users read it: without the prefix, with forward slashes."""
    return without_prefix(path).replace("\\", "/")


def reserved_part(path: str) -> str | None:
    r"""Return the first name in a path of Windows that programs cannot open there, or None.

    These are the names of devices, such as `aux` and `con.d`, and, in a path with the prefix, names that end with a
    dot or a space. Without the prefix, Windows removes these characters.
    """
    is_literal = path.startswith(_PREFIX)
    parts = PureWindowsPath(without_prefix(path)).parts
    return next((part for part in parts if _is_device(part) or (is_literal and _is_stripped(part))), None)


def is_reserved(name: str) -> bool:
    """Return whether programs on Windows cannot open a file or folder of this name, or only by another name."""
    return _is_device(name) or _is_stripped(name)


def _is_device(name: str) -> bool:
    return name.partition(".")[0].rstrip(" ").upper() in _DEVICES


def _is_stripped(name: str) -> bool:
    return name not in {".", ".."} and name.endswith((".", " "))


def for_system(path: Path, *, reserve: int = 0) -> Path:
    """Return the path that the functions of the system can open. Only on Windows it may be another one than `path`.

    A path that is too long for Windows gets the prefix; so does one that leaves fewer than `reserve` characters for the
    names of files in it.
    """
    if sys.platform != "win32":
        return path
    absolute = os.path.abspath(path)  # noqa: PTH100  it keeps a drive letter of `subst`
    prefixed = prefixed_if_long(absolute, reserve=reserve)
    return path if prefixed == absolute else Path(prefixed)


def absolute_path(path: Path) -> Path:
    """Return the path that an engine opens the same file by, without links except on Windows.

    There a link can be a drive letter of `subst` or of a network share, and its target a path that the engine cannot
    open.
    """
    if sys.platform != "win32":
        return path.resolve()
    return Path(without_prefix(os.path.abspath(path)))  # noqa: PTH100


def plain_path(path: Path) -> Path:
    """Return a path to which another one can be appended, also with `..`: on Windows without the prefix."""
    return Path(without_prefix(str(path))) if sys.platform == "win32" else path


def for_script(path: Path) -> str:
    """Return the path of a folder for a user's program, which may append names with `/`: mostly without prefix."""
    return prefixed_if_long(without_prefix(str(path)), reserve=_LONGEST_NAME) if sys.platform == "win32" else str(path)


def real_path(path: Path) -> Path:
    """Return a path that is the same for all names of a file, to compare with others. Never raises OSError."""
    try:
        found = path.resolve()
    except OSError:
        found = path.absolute()
    return Path(without_prefix(str(found))) if sys.platform == "win32" else found


def engine_path(path: Path) -> str:
    """Return an absolute path as text for an engine: forward slashes, no prefix."""
    return shown_path(path.absolute())


def shown_path(path: Path | str) -> str:
    """Return a path as text for messages, which engines can read in status.json: on Windows with forward slashes."""
    return with_forward_slashes(str(path)) if sys.platform == "win32" else str(path)


def error_text(error: BaseException) -> str:
    """Return the text of an exception, with its paths as `shown_path` returns them."""
    if sys.platform == "win32" and isinstance(error, OSError):
        return with_shown_paths(error)
    return str(error)


def with_shown_paths(error: OSError) -> str:
    """Return the text of an error of Windows, with forward slashes in its paths."""
    text = str(error)
    for name in (error.filename, error.filename2):
        if isinstance(name, str):
            text = text.replace(repr(name), repr(with_forward_slashes(name)))
    return text


def working_folder(path: Path) -> Path:
    """Return a folder in which a child process can start: Windows refuses one whose path is too long.

    In that case it is the nearest folder above with a shorter path.
    """
    if sys.platform != "win32":
        return path
    return Path(short_enough(str(plain_path(path))))


def short_enough(path: str) -> str:
    """Return a path of Windows, or that of the nearest folder above that can be a working folder."""
    folder = PureWindowsPath(path)
    while len(str(folder)) > LONGEST_FOLDER and folder != folder.parent:
        folder = folder.parent
    return str(folder)
