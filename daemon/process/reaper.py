"""Ends trainers without waiting for them: each is asked to end, then killed, then reported as stuck."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import psutil

from daemon.process.child import Child
from daemon.runtime.clock import Clock

KILLED_TIMEOUT_S = 5.0
"""A process that still exists so long after it was killed counts as stuck: it waits for a driver or a disk."""


class _Step(Enum):
    EXPECTED = auto()  #: the process should end without being asked
    ASKED = auto()
    KILLED = auto()
    STUCK = auto()


@dataclass(slots=True)
class _EndingChild:
    child: Child
    step: _Step
    until: float  #: monotonic s at which the next step is due


class Reaper:
    """The trainers that must end. No other trainer may start before all of them have ended."""

    def __init__(self, clock: Clock, grace_s: float) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._ending: list[_EndingChild] = []
        self._adopted: list[psutil.Process] = []

    def await_exit(self, child: Child) -> None:
        """Wait for a child that should end by itself; ask it to end after the grace period."""
        self._ending.append(_EndingChild(child, _Step.EXPECTED, self._clock.monotonic() + self._grace_s))

    def terminate(self, child: Child) -> None:
        """Ask a child to end now, and kill it after the grace period."""
        child.terminate()
        self._ending.append(_EndingChild(child, _Step.ASKED, self._clock.monotonic() + self._grace_s))

    def adopt(self, processes: list[psutil.Process]) -> None:
        """Also wait for processes of an earlier daemon that were killed and did not end."""
        self._adopted += processes

    @property
    def busy(self) -> bool:
        """Return whether a process has not ended yet."""
        return bool(self._ending or self._adopted)

    @property
    def stuck(self) -> tuple[int, ...]:
        """Return the pids of processes that were killed and have not ended."""
        children = (ending.child.pid for ending in self._ending if ending.step is _Step.STUCK)
        return (*children, *(process.pid for process in self._adopted))

    def tick(self) -> None:
        """Do the steps that are due."""
        now = self._clock.monotonic()
        self._ending = [ending for ending in self._ending if not self._is_gone(ending, now)]
        self._adopted = [process for process in self._adopted if process.is_running()]

    def _is_gone(self, ending: _EndingChild, now: float) -> bool:
        if ending.child.poll() is not None:
            if ending.step is _Step.STUCK and now < ending.until:
                return False
            if ending.child.reap():
                return True
            ending.step, ending.until = _Step.STUCK, now + KILLED_TIMEOUT_S
        elif now >= ending.until:
            self._next_step(ending, now)
        return False

    def _next_step(self, ending: _EndingChild, now: float) -> None:
        match ending.step:
            case _Step.EXPECTED:
                ending.child.terminate()
                ending.step, ending.until = _Step.ASKED, now + self._grace_s
            case _Step.ASKED:
                ending.child.kill()
                ending.step, ending.until = _Step.KILLED, now + KILLED_TIMEOUT_S
            case _Step.KILLED | _Step.STUCK:
                ending.child.kill()
                ending.step, ending.until = _Step.STUCK, now + KILLED_TIMEOUT_S

    def shut_down(self) -> None:
        """End all children, and wait for each up to the grace period. Called when the daemon ends."""
        for ending in self._ending:
            ending.child.stop(self._grace_s)
        self._ending = []
