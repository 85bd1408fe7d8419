"""Map exceptions to exit codes and to one line of text."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import ConfigError, ContractError, HotlapError, ModelError, RolloutError, split_code
from schemas.job import ExitCode, Failure, Suspect
from schemas.storage.windows_paths import error_text, shown_path
from schemas.text import printable
from trainer.common import user_code

_TRANSIENT = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EBUSY}
)
_CODES: tuple[tuple[type[HotlapError], ExitCode], ...] = (
    (ConfigError, ExitCode.BAD_CONFIG),
    (RolloutError, ExitCode.BAD_DATA),
    (ContractError, ExitCode.BAD_DATA),
    (ModelError, ExitCode.BAD_DATA),
)
_SUSPECTS_NAMED = 3


class ExplainedError(HotlapError):
    """A training failed, and the rollouts or the parent that caused it are known. The code is that of the failure."""

    def __init__(self, error: Exception, suspects: tuple[Suspect, ...], *, blames_parent: bool) -> None:
        self.error, self.suspects, self.blames_parent = error, suspects, blames_parent
        text, code = split_code(failure_of(error)[1].message)
        super().__init__(f"{_cause_in_words(self)}; {text.partition(' -> ')[0]}", code=code)


def failure_of(error: BaseException) -> tuple[ExitCode, Failure]:
    """Return the exit code for an exception, and the failure to report to the daemon or the user."""
    if isinstance(error, ExplainedError):
        text, suspects = str(error), error.suspects
        failure = Failure(code=error.code, message=text, suspects=suspects, blames_parent=error.blames_parent)
        return failure_of(error.error)[0], failure
    if isinstance(error, HotlapError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.BAD_DATA)
        return code, Failure(code=error.code, message=str(error))
    if isinstance(error, ValidationError):
        return ExitCode.USAGE, Failure(code="E_JOB", message=printable(f"the job cannot be read: {error}"))
    if is_out_of_memory(error):
        return ExitCode.TEMPORARY, Failure(
            code="E_MEMORY",
            message="out of memory -> lower batch_size or history_ratio, or set device = cpu [E_MEMORY]",
        )
    if isinstance(error, OSError) and error.errno in _TRANSIENT:
        reason = printable(f"{error.strerror}: {shown_path(error.filename or '')}")
        return ExitCode.TEMPORARY, Failure(code="E_DISK", message=f"{reason} -> free some space and try again [E_DISK]")
    return ExitCode.BUG, Failure(code="E_BUG", message=_describe_bug(error))


def _cause_in_words(error: ExplainedError) -> str:
    if error.blames_parent:
        return "the parent cannot be trained further"
    named = "; ".join(f"{suspect.name}: {suspect.reason}" for suspect in error.suspects[:_SUSPECTS_NAMED])
    more = len(error.suspects) - _SUSPECTS_NAMED
    return f"{named}{f'; and {more} more rollouts' if more > 0 else ''}"


def is_temporary(error: BaseException) -> bool:
    """Return whether another attempt may work: memory, disk or file handles were short."""
    return is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _TRANSIENT)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in words)


def _describe_bug(error: BaseException) -> str:
    """Return the line for an unexpected exception: its type, its text, the place, and what to do."""
    if file := user_code.file_of(error):
        return printable(f"{user_code.describe(error)} -> correct {file}; the log has the traceback [E_BUG]")
    text = f"{type(error).__name__}: {printable(error_text(error), limit=user_code.LONGEST_TEXT)}"
    frames = traceback.extract_tb(error.__traceback__)
    relevant = [frame for frame in frames if user_code.is_hotlap_code(frame.filename)] or frames
    place = f" ({Path(relevant[-1].filename).name}, line {relevant[-1].lineno})" if relevant else ""
    return printable(f"{text}{place} -> report it with the log [E_BUG]")
