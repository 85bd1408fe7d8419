"""Turns the exit of a trainer without a result into a failure: its reason, and whether another attempt may help."""

from __future__ import annotations

from daemon.ledger.cycle import Failed
from schemas.job import ExitCode, Failure
from schemas.process.exit_codes import CONTROL_C, NO_MEMORY, exit_words, is_crash, is_final, unsigned, with_remedy

MEMORY_ATTEMPTS = 2
"""If memory runs out once, another program may have used it; if it runs out twice, training needs too much."""
CLOSING_S = 10.0
_SIGKILL = -9


def exit_reason(
    exit_code: int, failure: Failure | None, *, last_words: str, is_script: bool, was_ready: bool, command: str
) -> Failed:
    """Return the failure of a trainer that exited without a result.

    A trainer that was never ready has not read its job. So its inputs did not cause the failure, and another attempt
    may help.
    """
    what = "training script" if is_script else "trainer"
    if failure is not None:
        code = f"[{failure.code}]"
        reason = failure.message if code in failure.message else f"{failure.message} {code}"
    elif _ran_out_of_memory(exit_code):
        reason = f"the {what} was killed by the system with {exit_words(exit_code)}, usually because memory ran out"
    elif unsigned(exit_code) < 0:
        reason = f"the {what} was ended by {exit_words(exit_code)}{_quoted(last_words)}"
    else:
        reason = f"the {what} ended with {exit_words(exit_code)}{_quoted(last_words) or ', no message'}"
    if failure is None:
        reason = with_remedy(reason, exit_code)
    if not was_ready and not is_script:
        kind = ExitCode.BUG if failure is None and is_final(exit_code) else ExitCode.TEMPORARY
        return Failed(f"the trainer was never ready (command: {command}): {reason}", kind, is_setup=True)
    if _ran_out_of_memory(exit_code) or (failure is not None and failure.code == "E_MEMORY"):
        return Failed(reason, ExitCode.TEMPORARY, max_attempts=MEMORY_ATTEMPTS, is_memory=True)
    if failure is None and is_crash(exit_code):
        return Failed(reason, ExitCode.BUG if is_final(exit_code) else ExitCode.TEMPORARY, is_crash=True)
    if failure is None:
        return Failed(reason, exit_code or ExitCode.BUG, is_crash=not is_script)
    suspects, blames_parent = failure.suspects, failure.blames_parent
    return Failed(reason, exit_code or ExitCode.BUG, suspects=suspects, blames_parent=blames_parent)


class ConsoleClosed:
    """Trainers that Windows ended when their console was closed. It is the daemon's console: the daemon ends next.

    So this is not a failure of the cycle, but only once: a trainer can end by itself with the same exit code.
    """

    def __init__(self) -> None:
        self._cycle: int | None = None
        self._until = 0.0

    def interrupts(self, cycle: int, exit_code: int, now: float) -> bool:
        """Return whether the exit interrupts the cycle; then no trainer may start for `CLOSING_S`."""
        if unsigned(exit_code) != CONTROL_C or cycle == self._cycle:
            return False
        self._cycle, self._until = cycle, now + CLOSING_S
        return True

    def left_s(self, now: float) -> float:
        """Return the seconds before a trainer may start."""
        return self._until - now


def _ran_out_of_memory(exit_code: int) -> bool:
    return exit_code == _SIGKILL or unsigned(exit_code) in NO_MEMORY


def _quoted(last_words: str) -> str:
    return f": {last_words}" if last_words else ""
