"""Print a training's progress as plain lines on a console."""

from __future__ import annotations

import sys
from typing import TextIO

from schemas.job import EpochDone, Notice, Selecting
from schemas.program.commands import usable
from schemas.text import ascii_safe

_LOSSES = ("value_loss", "policy_loss", "critic_loss", "entropy", "approx_kl")
"""Which of an algorithm's losses are printed."""


class ConsoleReporter:
    """Prints a line after each epoch; notices go to stderr."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    def report_activity(self, activity: str, progress: float) -> None:
        """Do nothing: the lines of the epochs show the progress."""

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Print an event as one line."""
        if isinstance(event, Notice):
            print_error(f"note: {event.message} [{event.code}]")
        elif isinstance(event, EpochDone):
            losses = ((name, event.losses[name]) for name in _LOSSES if name in event.losses)
            numbers = ", ".join(f"{name} {_number(value)}" for name, value in losses)
            self.line(
                f"epoch {event.epoch}/{event.epochs}: {numbers}, score {_number(event.score)} ({event.seconds:.2f} s)"
            )
        else:
            self.line("selecting")

    def line(self, text: str) -> None:
        """Print one line that any console can show."""
        print(ascii_safe(text), file=self._out, flush=True)


def print_error(text: str) -> None:
    """Print one line to stderr that any console can show."""
    print(ascii_safe(usable(text)), file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
