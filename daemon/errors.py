"""What the daemon's command line answers with."""

from __future__ import annotations

from enum import IntEnum

from schemas.errors import HotlapError


class Exit(IntEnum):
    """Exit codes of `python -m daemon` (Contract 5)."""

    DONE = 0
    CYCLE_FAILED = 1
    USAGE = 2
    NOTHING_TO_TRAIN_ON = 3
    OTHER_DAEMON = 4


class DaemonError(HotlapError):
    """A reason to stop, with the exit code that goes with it."""

    code = "E_DAEMON"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message, hint=hint, code=code)
        self.exit_code = exit_code


class LedgerError(DaemonError):
    """The ledger is damaged, of a newer Hotlap, or not ours to write."""

    code = "E_LEDGER"


class StaleCycle(DaemonError):
    """Someone else moved this cycle since it was read."""

    code = "E_STALE_CYCLE"
