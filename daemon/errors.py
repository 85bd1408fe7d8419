"""The errors of the daemon, and the exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

from schemas.errors import HotlapError
from schemas.storage.windows_paths import shown_path


class Exit(IntEnum):
    """Exit codes of `hotlap`, as docs/reference/versioning.md lists them."""

    DONE = 0
    CYCLE_FAILED = 1
    USAGE = 2
    NOTHING_TO_TRAIN_ON = 3
    OTHER_DAEMON = 4
    STOPPED = 130  #: by Ctrl-C, before it had done what it was started for


class DaemonError(HotlapError):
    """An error that ends the command, with its exit code."""

    code = "E_DAEMON"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message, hint=hint, code=code)
        self.exit_code = exit_code


def nothing_to_train_on(exports: Path, misplaced: str = "", *, rejected: int = 0) -> DaemonError:
    """Return the error of a cycle that was requested although Exports contains no rollouts.

    `misplaced` describes files that may be rollouts and are not read, with a remedy. `rejected` is how many files were
    rejected just now.
    """
    hint = "" if misplaced else "let the engine write rollout_<i>_<YYYYMMDD_HHMMSS>.json there first"
    return DaemonError(
        f"{shown_path(exports)} contains no rollouts{f' that can be used: {rejected} rejected' if rejected else ''}"
        f"{f', but {misplaced}' if misplaced else ''}",
        hint="read the reasons above, or in Saved/Training/Rejected" if rejected else hint,
        code="E_NO_ROLLOUTS",
        exit_code=Exit.NOTHING_TO_TRAIN_ON,
    )


def nothing_new(exports: Path, used: int) -> DaemonError:
    """Return the error of a cycle that was requested although a cycle has used all rollouts in Exports."""
    what = "its rollout was" if used == 1 else f"its {used} rollouts were all"
    return DaemonError(
        f"{shown_path(exports)} contains nothing new: {what} used by earlier cycles",
        hint="let the engine write more; `hotlap --once --again` or `hotlap trigger --again` trains on them again",
        code="E_NO_NEW_ROLLOUTS",
        exit_code=Exit.NOTHING_TO_TRAIN_ON,
    )


class LedgerError(DaemonError):
    """The ledger is damaged, of a newer version, or cannot be written."""

    code = "E_LEDGER"


class StaleCycle(DaemonError):
    """Another process changed the phase of this cycle after it was read."""

    code = "E_STALE_CYCLE"
