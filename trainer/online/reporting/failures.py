"""What a user sees of an exception: one line on stderr, which names the file with the traceback."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

from schemas.errors import split_code
from schemas.job import ExitCode
from schemas.storage.files import write_atomic
from trainer.common.exit_codes import failure_of
from trainer.common.reporting.console import print_error
from trainer.envs.raised import EnvironmentRaisedError
from trainer.online.run_folder import shown_from_here

_OUT_OF_MEMORY = 'out of memory -> lower env.num_envs or env.n_steps, or set run.device = "cpu" [E_MEMORY]'
_ERROR_LOG = "error.log"
_IN_LOG = "the log has the traceback"


def traceback_of(error: Exception) -> str:
    """Return the traceback that the log needs; "" if the line says everything."""
    if isinstance(error, EnvironmentRaisedError) and error.traceback_text:  # with the lines of a worker
        return error.traceback_text
    is_unexpected = failure_of(error)[0] == ExitCode.BUG or error.__cause__ is not None
    return "".join(traceback.format_exception(error)) if is_unexpected else ""


def note_log(error: Exception, log: Path) -> None:
    """Note on an exception that this file has its traceback."""
    error.add_note(f"the traceback is in {shown_from_here(log)}")


def report(error: Exception, logs: Path) -> int:
    """Write one line to stderr and return the exit code. If no run's log has the traceback, write it to `logs`."""
    code, failure = failure_of(error)
    if failure.code == "E_MEMORY":
        print_error(f"error: {_OUT_OF_MEMORY}")
        return int(code)
    if not _note_of(error) and (text := traceback_of(error)):
        with contextlib.suppress(OSError):
            logs.mkdir(parents=True, exist_ok=True)
            write_atomic(logs / _ERROR_LOG, text.encode("utf-8", "replace"))
            note_log(error, logs / _ERROR_LOG)
    print_error(f"error: {line_of(error)}")
    return int(code)


def line_of(error: Exception) -> str:
    """Return the line for an exception, with the file of its traceback."""
    line, note = failure_of(error)[1].message, _note_of(error)
    if not note or _IN_LOG in line:
        return line.replace(_IN_LOG, note or _IN_LOG)
    text, code = split_code(line)
    return f"{text}; {note} [{code}]" if code else f"{text}; {note}"


def _note_of(error: Exception) -> str:
    return str(next(iter(getattr(error, "__notes__", [])), ""))
