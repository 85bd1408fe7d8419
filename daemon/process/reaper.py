"""Trainers on their way out: asked, killed, or stuck; nothing here ever waits, and none is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import psutil

from daemon.process.child import Child
from daemon.runtime.clock import Clock

KILLED_TIMEOUT_S = 5.0
"""A killed process that is still there after this long hangs in a driver or a dead disk: it counts as stuck."""


class _Step(Enum):
    EXPECTED = auto()
    ASKED = auto()
    KILLED = auto()
    STUCK = auto()


@dataclass(slots=True)
class _Leaving:
    child: Child
    step: _Step
    until: float  #: monotonic s, when the next step is due


class Reaper:
    """While anything in here lives, no other trainer may be started beside it."""

    def __init__(self, clock: Clock, grace_s: float) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._leaving: list[_Leaving] = []
        self._strangers: list[psutil.Process] = []

    def await_exit(self, child: Child) -> None:
        """Take over a child that is done and ends by itself; one that lingers is asked to."""
        self._leaving.append(_Leaving(child, _Step.EXPECTED, self._clock.monotonic() + self._grace_s))

    def terminate(self, child: Child) -> None:
        """Take over a child that must end: it is asked now and killed after the grace."""
        child.terminate()
        self._leaving.append(_Leaving(child, _Step.ASKED, self._clock.monotonic() + self._grace_s))

    def adopt(self, processes: list[psutil.Process]) -> None:
        """Take over what an earlier daemon left and what did not die when it was killed."""
        self._strangers += processes

    @property
    def busy(self) -> bool:
        """Return whether something still lives."""
        return bool(self._leaving or self._strangers)

    @property
    def stuck(self) -> tuple[int, ...]:
        """Return the pids of what was killed and lives on."""
        ours = (leaving.child.pid for leaving in self._leaving if leaving.step is _Step.STUCK)
        return (*ours, *(process.pid for process in self._strangers))

    def tick(self) -> None:
        """Take the steps that are due."""
        now = self._clock.monotonic()
        self._leaving = [leaving for leaving in self._leaving if not self._is_gone(leaving, now)]
        self._strangers = [process for process in self._strangers if process.is_running()]

    def _is_gone(self, leaving: _Leaving, now: float) -> bool:
        if leaving.child.poll() is not None:
            if leaving.step is _Step.STUCK and now < leaving.until:
                return False
            if leaving.child.reap():
                return True
            leaving.step, leaving.until = _Step.STUCK, now + KILLED_TIMEOUT_S
        elif now >= leaving.until:
            self._next_step(leaving, now)
        return False

    def _next_step(self, leaving: _Leaving, now: float) -> None:
        match leaving.step:
            case _Step.EXPECTED:
                leaving.child.terminate()
                leaving.step, leaving.until = _Step.ASKED, now + self._grace_s
            case _Step.ASKED:
                leaving.child.kill()
                leaving.step, leaving.until = _Step.KILLED, now + KILLED_TIMEOUT_S
            case _Step.KILLED | _Step.STUCK:
                leaving.child.kill()
                leaving.step, leaving.until = _Step.STUCK, now + KILLED_TIMEOUT_S

    def shut_down(self) -> None:
        """End all that is left, waiting for each within its grace; for the daemon's own end."""
        for leaving in self._leaving:
            leaving.child.stop(self._grace_s)
        self._leaving = []
