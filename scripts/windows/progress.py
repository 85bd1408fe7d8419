"""Progress lines, the run of one step's program, and the errors that a step can end with."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from scripts.devtools.processes import stream
from scripts.devtools.progress_line import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class SetupError(Exception):
    """Something that the user can fix. The message is one line: the cause, then the remedy."""


class Unavailable(SetupError):
    """The environment cannot be made on this machine, for example without apt or a network."""


class Progress:
    """One line for each step."""

    def __init__(self, out: Any = None, now: Callable[[], float] = time.monotonic) -> None:
        self._line = ProgressLine(out, now)
        self._doing = ""
        self.detail = ""  #: what the step is doing right now
        self.durations_s: dict[str, float] = {}  #: of the steps that did something

    def say(self, text: str) -> None:
        """Print a line."""
        self._line.write(f"[windows] {text}")

    @contextlib.contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Show that a step runs, and how long it took."""
        self._line.started_s, self._doing, self.detail = self._line.now(), text, ""
        self._show()
        try:
            yield
        except BaseException:
            if self._line.is_terminal:
                self._line.write("")
            raise
        took_s = self._line.now() - self._line.started_s
        self.durations_s[name] = took_s
        self.detail = ""
        self.say(f"{text}: {took_s:.1f} s")

    def tick(self) -> None:
        """Show the current step if it is time to."""
        if self._line.is_due():
            self._show()

    def _show(self) -> None:
        detail = f" ({self.detail})" if self.detail else ""
        self._line.write(f"[windows] {self._doing}{detail} ... {self._line.elapsed_s():.0f} s", final=False)


def run_program(
    argv: Sequence[str],
    progress: Progress,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    describe: Callable[[str], str] = lambda line: "",
) -> tuple[int, str]:
    """Run a program of a step and return its exit code and output. `describe` turns a line into a detail."""
    output: list[str] = []

    def take(line: str) -> None:
        output.append(line)
        progress.detail = describe(line) or progress.detail

    code = stream(argv, cwd, take, progress.tick, os.environ if env is None else env)
    return code, "\n".join(output)
