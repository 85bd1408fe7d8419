"""Exceptions of an environment: one line that names the user's file, also if the environment runs in a worker."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from schemas.errors import ConfigError, HotlapError
from schemas.process.exit_codes import exit_words
from trainer.common.user_code import describe, file_of

_OF_THE_OLD_API = ("to unpack", "has no attribute 'items'")
_OF_A_LOST_PROCESS = (EOFError, BrokenPipeError, ConnectionResetError)


class EnvironmentRaisedError(HotlapError):
    """The environment raised an exception. `traceback_text` is for the log."""

    code = "E_ENV"
    traceback_text = ""


class InWorkerError(Exception):
    """A HotlapError on its way from a worker. Gymnasium calls its type again, with the exception as the argument."""

    def inner(self) -> HotlapError:
        """Return the HotlapError."""
        error: BaseException = self
        while isinstance(error, InWorkerError):
            error = error.args[0]
        assert isinstance(error, HotlapError)
        return error


def _explained(error: BaseException, what: str, name: str) -> HotlapError:
    """Return the error for an exception that `what` of the environment `name` raised."""
    if isinstance(error, HotlapError):
        return error
    file = file_of(error)
    if not file and any(text in str(error) for text in _OF_THE_OLD_API):
        return _other_interface(name, str(error))
    hint = f"correct {file}" if file else f"correct {name}, or use another version of it"
    explained = EnvironmentRaisedError(f"the environment's {what} raised {describe(error)}", hint=hint)
    explained.traceback_text = "".join(traceback.format_exception(error))
    return explained


def _other_interface(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{name} does not have Gymnasium's interface, perhaps that of the older gym package: {reason}",
        hint="return (observation, info) from reset and five values from step",
        code="E_ENV",
    )


def values_of(result: Any, count: int, what: str, name: str) -> Sequence[Any]:
    """Return the values that `what` of the environment `name` returned. Raises ConfigError (E_ENV)."""
    if isinstance(result, (tuple, list)) and len(result) == count:
        return result
    found = f"{len(result)} values" if isinstance(result, (tuple, list)) else f"a {type(result).__name__}"
    raise _other_interface(name, f"{what} returned {found} instead of {count} values")


@contextmanager
def in_environment(what: str, name: str) -> Iterator[None]:
    """Raise HotlapError (E_ENV) if `what` of the environment `name`, which the block calls, raises an exception.

    In a worker, InWorkerError contains it.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        explained = _explained(error, what, name)
        if multiprocessing.parent_process() is not None:
            raise InWorkerError(explained) from None
        if explained is error:
            raise
        raise explained from (error if isinstance(explained, EnvironmentRaisedError) else None)


@contextmanager
def from_workers(name: str, processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Raise what a worker raised as the HotlapError that it is, and name a worker that ended. Gymnasium stays quiet."""
    from gymnasium import logger

    level = logger.min_level
    logger.min_level = logger.ERROR + 1  # it would print the traceback
    try:
        yield
    except InWorkerError as error:
        raise error.inner() from None
    except _OF_A_LOST_PROCESS as error:
        raise _lost(name, processes) from error
    finally:
        logger.min_level = level


def _lost(name: str, processes: Sequence[BaseProcess]) -> EnvironmentRaisedError:
    ended = wait([process.sentinel for process in processes], timeout=2.0)
    for process in processes:
        if process.sentinel in ended:
            process.join(timeout=2.0)  # its exit code comes a little later
    codes = [code for process in processes if (code := process.exitcode) is not None]
    words = exit_words(codes[0]) if codes else "it closed its pipe"
    hint = "env.workers = false runs it in this process, which can show the cause"
    return EnvironmentRaisedError(f"a process of {name} ended: {words}", hint=hint)
