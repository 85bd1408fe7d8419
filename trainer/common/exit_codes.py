"""Every exception becomes an exit code and one line for people, here and nowhere else."""

from __future__ import annotations

import errno

from pydantic import ValidationError

from schemas.errors import ConfigError, ContractError, HotlapError, ModelError, RolloutError, describe_exception
from schemas.job import ExitCode, Failure
from schemas.text import printable

_TRANSIENT = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EBUSY}
)
_CODES: tuple[tuple[type[HotlapError], ExitCode], ...] = (
    (ConfigError, ExitCode.BAD_CONFIG),
    (RolloutError, ExitCode.BAD_DATA),
    (ContractError, ExitCode.BAD_DATA),
    (ModelError, ExitCode.BAD_DATA),
)


def failure_of(error: BaseException) -> tuple[ExitCode, Failure]:
    """Map any exception to an exit code and one line for people; the only place that does."""
    if isinstance(error, HotlapError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.BAD_DATA)
        return code, Failure(code=error.code, message=str(error))
    if isinstance(error, ValidationError):
        return ExitCode.USAGE, Failure(code="E_JOB", message=printable(f"the job cannot be read: {error}"))
    if _is_out_of_memory(error):
        return ExitCode.TEMPORARY, Failure(
            code="E_MEMORY",
            message="out of memory -> lower batch_size or history_ratio, or set device = cpu [E_MEMORY]",
        )
    if isinstance(error, OSError) and error.errno in _TRANSIENT:
        reason = printable(f"{error.strerror}: {error.filename or ''}")
        return ExitCode.TEMPORARY, Failure(code="E_DISK", message=f"{reason} -> make room and try again [E_DISK]")
    return ExitCode.BUG, Failure(
        code="E_BUG", message=f"{describe_exception(error)} -> please report it with the log [E_BUG]"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    name = type(error).__name__
    said = isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error))
    return isinstance(error, MemoryError) or name == "OutOfMemoryError" or said
