"""The process of one milestone, as the pipeline sees it: when it is ended, and what its end means."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from schemas.process.exit_codes import exit_words, remedy
from schemas.process.tree import ProcessTree
from trainer.dagger.results import MilestoneResult


@dataclass(slots=True)
class WorkerProcess:
    """A milestone's process that runs."""

    name: str
    tree: ProcessTree
    reader: threading.Thread
    started_s: float  #: monotonic
    last_event_s: float  #: time of the last event, monotonic
    result: MilestoneResult | None = None
    ended_because: str = ""  #: why the pipeline ended it

    def end_if_slow(self, now_s: float, *, stall_timeout_s: float, timeout_s: float | None) -> None:
        """Kill it with all processes that it started, if it sent nothing or ran for too long.

        Its end arrives as an event. If it ended and left a process that keeps its output open, kill that process.
        """
        if self.tree.poll() is not None:
            self.tree.release()
            return
        if self.ended_because:
            return
        log = f"see logs/{self.name}.log"
        if timeout_s is not None and now_s - self.started_s > timeout_s:
            self.ended_because = f"it took longer than its timeout in the config, {timeout_s:g} s -> raise it; {log}"
        elif now_s - self.last_event_s > stall_timeout_s:
            cause = "its environment hangs, or --stall-timeout is too short"
            self.ended_because = f"it made no progress for {stall_timeout_s:g} s: {cause} -> {log}"
        if self.ended_because:
            self.tree.kill()

    def reason(self, exit_code: int | None) -> str:
        """Return why it failed, if it sent no result."""
        hint = "; ".join(filter(None, (remedy(exit_code), f"see logs/{self.name}.log")))
        return self.ended_because or f"its process ended with {exit_words(exit_code)} -> {hint}"
