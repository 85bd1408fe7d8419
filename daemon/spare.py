"""One trainer kept warm while the daemon waits, so that a cycle does not begin with importing torch."""

from __future__ import annotations

from typing import Protocol

from daemon.errors import DaemonError
from daemon.launch import Child, Command, last_line, python_for, trainer_command
from daemon.project import Project
from schemas.job import Ready

LOG_NAME = "spare_trainer.log"
RESTART_DELAY_S = 60.0


class Launcher(Protocol):
    """Starts children. Tests put their own in its place."""

    def start(self, command: Command, *, speaks_events: bool) -> Child:
        """Start a child. Raises DaemonError where there is no such program."""


class Spare:
    """Each trainer still serves one cycle; this one has only done its imports before it is asked."""

    def __init__(self, project: Project, launcher: Launcher) -> None:
        self._project = project
        self._launcher = launcher
        self._child: Child | None = None
        self._ready = False
        self._not_before = 0.0

    def tick(self, *, may_start: bool) -> None:
        """Start one where it is wanted and none is there; note what it says."""
        if self._child is None:
            if may_start and self._project.clock.monotonic() >= self._not_before:
                self._start()
            return
        self._ready = any(isinstance(event, Ready) for event in self._child.events()) or self._ready
        if self._child.poll() is not None:
            self._give_up(f"the spare trainer ended: {last_line(self._project.layout.logs / LOG_NAME)}")

    def take(self) -> tuple[Child, bool] | None:
        """Give the spare, and whether it has said `ready`; None where there is none."""
        child, self._child = self._child, None
        if child is None:
            return None
        if child.poll() is not None:
            child.stop(0.0)
            return None
        self._ready = any(isinstance(event, Ready) for event in child.events()) or self._ready
        return child, self._ready

    def stop(self) -> None:
        """End it; it has nothing to lose."""
        if self._child is not None:
            self._child.stop(self._project.settings.daemon.stop_grace_s)
            self._child = None

    def _start(self) -> None:
        project = self._project
        log = project.layout.logs / LOG_NAME
        try:
            log.write_bytes(b"")
            python = python_for(project.settings.daemon.python_executable)
            command = trainer_command(python, folder=project.layout.state, log=log, project=project.layout.project)
            self._child = self._launcher.start(command, speaks_events=True)
        except (DaemonError, OSError) as error:
            self._give_up(f"no spare trainer could be started: {error}")
        self._ready = False

    def _give_up(self, reason: str) -> None:
        """Try again later: a cycle then starts its own and says what is wrong."""
        if self._child is not None:
            self._child.stop(0.5)
            self._child = None
        self._not_before = self._project.clock.monotonic() + RESTART_DELAY_S
        self._project.log.warning(reason)
