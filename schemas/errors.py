"""Expected failures: the cause, the remedy and a stable code."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

from schemas.text import printable

_CODE_AT_END = re.compile(r" \[([EW]_[A-Z_]+)\]$")
_ROW_NUMBER = re.compile(r"\b(experience|row) (\d+)")
_LIBRARY_FOLDERS = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class HotlapError(Exception):
    """An expected failure. `str(error)` is one line: cause, remedy, code."""

    code = "E_HOTLAP"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        self.code = code or type(self).code
        super().__init__(self.line())

    def __str__(self) -> str:
        return self.line()  # also after pickling, which calls `__init__` with the whole line

    def line(self) -> str:
        """Return the error as one line of text without control characters."""
        remedy = f" -> {self.hint}" if self.hint else ""
        return f"{self.message}{remedy} [{self.code}]"


class RolloutError(HotlapError):
    """A rollout file that cannot be used. `incomplete` is true if its writer may still be writing it."""

    code = "E_SCHEMA"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, incomplete: bool = False) -> None:
        super().__init__(message, hint=hint, code=code)
        self.incomplete = incomplete

    def of_later_rows(self, rows: int) -> RolloutError:
        """Return the error of a part of a file that is preceded by so many rows: its message counts from the first."""
        message = _ROW_NUMBER.sub(lambda found: f"{found[1]} {int(found[2]) + rows}", self.message)
        return RolloutError(message, hint=self.hint, code=self.code, incomplete=self.incomplete)


class ModelError(HotlapError):
    """A file that is not a valid model JSON, or a model that does not compute the outputs of its probe."""

    code = "E_MODEL"


class ConfigError(HotlapError):
    """Settings that cannot be used: unknown names, wrong values, contradictions."""

    code = "E_CONFIG"


class ContractError(HotlapError):
    """Data or a model whose contract is not the project's."""

    code = "E_CONTRACT"


def split_code(line: str) -> tuple[str, str | None]:
    """Return the text of a line that ends with a code, and the code; None if it does not end with one.

    For a message that contains another one: it keeps that code instead of adding a second one.
    """
    found = _CODE_AT_END.search(line)
    return (line[: found.start()], found[1]) if found else (line, None)


def describe_exception(error: BaseException) -> str:
    """Return an exception in one line, with the place that raised it: `ValueError: too short (losses.py, line 12)`.

    The place is the last one outside of Python's own and installed modules, if there is one.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [frame for frame in frames if not frame[0].f_code.co_filename.startswith(_LIBRARY_FOLDERS)]
    place = ""
    if frames:
        frame, line = (own or frames)[-1]
        place = f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return printable(f"{type(error).__name__}: {error}{place}")
