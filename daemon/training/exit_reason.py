"""Turns the exit of a trainer without a result into a failure: its reason, and whether another attempt may help."""

from __future__ import annotations

from daemon.ledger.cycle import Failed
from schemas.job import ExitCode, Failure

MEMORY_ATTEMPTS = 2
"""If memory runs out once, another program may have used it; if it runs out twice, training needs too much."""
_SIGKILL = -9
_NO_MEMORY_ON_WINDOWS = frozenset({0xC0000017, 0xC000012D})  # STATUS_NO_MEMORY, STATUS_COMMITMENT_LIMIT


def exit_reason(
    exit_code: int, failure: Failure | None, *, last_words: str, is_script: bool, was_ready: bool, command: str
) -> Failed:
    """Return the failure of a trainer that exited without a result.

    A trainer that was never ready has not read its job. So its inputs did not cause the failure, and another attempt
    may help.
    """
    if failure is not None:
        code = f"[{failure.code}]"
        reason = failure.message if code in failure.message else f"{failure.message} {code}"
    elif exit_code == _SIGKILL or exit_code in _NO_MEMORY_ON_WINDOWS:
        reason = f"the trainer was killed by the system (exit code {exit_code}), usually because memory ran out"
    elif exit_code < 0:
        reason = f"the trainer was ended by signal {-exit_code}{_quoted(last_words)}"
    else:
        what = "training script" if is_script else "trainer"
        reason = f"the {what} ended with exit code {exit_code}{_quoted(last_words) or ', no message'}"
    if not was_ready and not is_script:
        return Failed(f"the trainer was never ready (command: {command}): {reason}", ExitCode.TEMPORARY, is_setup=True)
    if exit_code in {_SIGKILL, *_NO_MEMORY_ON_WINDOWS} or (failure is not None and failure.code == "E_MEMORY"):
        return Failed(reason, ExitCode.TEMPORARY, max_attempts=MEMORY_ATTEMPTS)
    return Failed(reason, exit_code or ExitCode.BUG)


def _quoted(last_words: str) -> str:
    return f": {last_words}" if last_words else ""
