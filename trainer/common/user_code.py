"""Code of users: where it is searched, and which line of it an exception comes from."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

from schemas.program.children import CODE_ROOT
from schemas.storage.windows_paths import error_text
from schemas.text import printable

_HOTLAP_FOLDERS = (CODE_ROOT / "trainer", CODE_ROOT / "schemas")
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
LONGEST_TEXT = 1500  #: characters of an exception's own text, so that the end of the line is not cut off


def search_folder(folder: Path) -> None:
    """Let imports search a folder last, so that no file in it replaces an installed module."""
    text = str(folder.resolve())
    if text not in sys.path:
        sys.path.append(text)


def search_current_folder() -> None:
    """Let imports search the current folder last."""
    search_folder(Path.cwd())


def describe(error: BaseException) -> str:
    """Return an exception in one line: type, text, and the file and line of the user's code that raised it.

    `RuntimeError: no cartridge (game.py, line 12)`. If no user's code took part, the place is that of a library.
    """
    place = place_of(error)
    # A SyntaxError contains its place, and the file was not run.
    contains_place = isinstance(error, SyntaxError) and error.filename
    text = f"{type(error).__name__}: {printable(error_text(error), limit=LONGEST_TEXT)}"
    return printable(f"{text} ({place})" if place and not contains_place else text)


def place_of(error: BaseException) -> str:
    """Return `game.py, line 12`: the innermost line of the user's code, else of a library; "" if only Hotlap ran."""
    if file := _file_with_wrong_syntax(error):
        return f"{file}, line {error.lineno}" if isinstance(error, SyntaxError) else file
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_hotlap_code(frame.filename)]
    relevant = [frame for frame in frames if is_user_code(frame.filename)] or frames
    return f"{Path(relevant[-1].filename).name}, line {relevant[-1].lineno}" if relevant else ""


def file_of(error: BaseException) -> str:
    """Return the name of the user's file that an exception comes from; "" if no user's code took part."""
    if file := _file_with_wrong_syntax(error):
        return file
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_user_code(f.filename)]
    return Path(frames[-1].filename).name if frames else ""


def _file_with_wrong_syntax(error: BaseException) -> str:
    """Return the name of the user's file that Python could not parse, and so did not run; "" if it is another error."""
    if not isinstance(error, SyntaxError) or not error.filename or not is_user_code(error.filename):
        return ""
    return Path(error.filename).name


def is_hotlap_code(filename: str) -> bool:
    """Return whether a file is part of Hotlap."""
    return any(Path(filename).resolve().is_relative_to(folder) for folder in _HOTLAP_FOLDERS)


def is_user_code(filename: str) -> bool:
    """Return whether a file is not part of Hotlap, of Python or of an installed package."""
    if not Path(filename).is_absolute():  # "<string>", "<frozen importlib._bootstrap>"
        return False
    path = Path(filename).resolve()
    is_installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not is_installed and not is_hotlap_code(filename) and not path.is_relative_to(_STANDARD_LIBRARY)
