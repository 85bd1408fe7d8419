"""What goes wrong in an environment, with the line of the user's code that it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import HotlapError
from trainer.common.user_code import describe, file_of

HINT = "see `hotlap docs dagger`"


class StateError(HotlapError):
    """A start state is missing, damaged, from another game, or one in which the milestone is already reached."""

    code = "E_STATE"


class EnvironmentRaisedError(HotlapError):
    """The environment raised an exception, or returned something that cannot be used."""

    code = "E_ENV"


class NoFrameError(HotlapError):
    """The environment cannot be drawn. Then no videos are recorded."""

    code = "E_ENV"


def cause(error: BaseException) -> str:
    """Return what to do about an exception of the user's code."""
    file = file_of(error)
    return f"correct {file}; the milestone's log has the traceback" if file else "see the milestone's log"


@contextmanager
def in_environment(what: str) -> Iterator[None]:
    """Raise EnvironmentRaisedError if the environment raises an exception in the block, which uses `what` of it."""
    try:
        yield
    except HotlapError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentRaisedError(f"the environment's {what} raised {describe(error)}", hint=cause(error)) from error
