"""A trainer or training script as a child process: start, events, log and end."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from pydantic import ValidationError

from daemon.errors import DaemonError
from daemon.process.interpreter import command_line
from daemon.process.output_log import ChildLog
from schemas.job import EpochDone, Event, Heartbeat, Job, event_from_line
from schemas.process.ending import is_closing
from schemas.process.tree import ProcessTree
from schemas.program.children import CODE_ROOT, import_path, module_command
from schemas.settings.models import TrainerSettings
from schemas.storage.windows_paths import shown_path, working_folder

MAX_EVENT_BYTES = 1 << 20
MAX_WAITING_EVENTS = 1000
"""A child that sends more events than this between two passes must wait, so that they cannot fill our memory."""
_CAN_WAIT = (EpochDone, Heartbeat)
"""These events do not wake the daemon: the next pass handles them, and more passes would slow down training."""
CLOSING_GRACE_S = 0.5
_CHUNK_BYTES = 1 << 16
_DRAIN_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start a child."""

    arguments: tuple[str, ...]
    log: Path  #: for stderr, and for stdout if the child sends no events
    search_path: tuple[Path, ...]  #: folders from which it may import modules
    project: Path  #: the project folder, which is its current folder: Hotlap does not rename or remove it


def trainer_command(python: str, *, log: Path, project: Path, settings: TrainerSettings) -> ChildSpec:
    """Return the command of Hotlap's own trainer, which sends events.

    It imports modules from the project only if the settings name some, and searches the project last: a `random.py`
    in the project must not be imported instead of Python's own.
    """
    user_code = ("--modules-in", str(project)) if settings.network or settings.loss else ()
    command = module_command("trainer", "serve", *user_code, python=python)
    return ChildSpec(command, log, (CODE_ROOT,), project)


def script_command(python: str, script: Path, arguments: Sequence[str], *, log: Path, project: Path) -> ChildSpec:
    """Return the command of a user's training script, wrapped so that it ends with the daemon."""
    wrapper = str(Path(__file__).with_name("script_wrapper.py"))
    return ChildSpec((python, "-P", "-u", wrapper, str(script), *arguments), log, (CODE_ROOT,), project)


class Child:
    """A child process with its descendants; its standard input is its lifeline.

    To end it without waiting: `terminate`, then `kill` if it does not end, then `reap` after it has ended.
    """

    def __init__(self, spec: ChildSpec, *, sends_events: bool, wake: Callable[[], None]) -> None:
        self._sends_events = sends_events
        self._wake = wake
        self._events: queue.Queue[Event] = queue.Queue(MAX_WAITING_EVENTS)
        self._is_closing = threading.Event()
        self._jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._is_cut = False
        self._tree = _start(spec, subprocess.PIPE if sends_events else subprocess.STDOUT)
        self._log = ChildLog(spec.log)
        process = self._tree.process
        assert process.stdin is not None
        assert process.stdout is not None
        self._writer = self._thread(self._write_jobs, process.stdin)
        self._readers = [self._thread(self._read_events if sends_events else self._copy_to_log, process.stdout)]
        if process.stderr is not None:
            self._readers.append(self._thread(self._copy_to_log, process.stderr))

    @staticmethod
    def _thread(work: Callable[[IO[bytes]], None], stream: IO[bytes]) -> threading.Thread:
        thread = threading.Thread(target=work, args=(stream,), name=f"child-{work.__name__[1:]}", daemon=True)
        thread.start()
        return thread

    def _read_events(self, stream: IO[bytes]) -> None:
        """Queue the event of each line; lines that are too long or do not contain an event are skipped."""
        is_too_long = False
        with stream, contextlib.suppress(OSError, ValueError):
            while line := stream.readline(MAX_EVENT_BYTES):
                is_whole = line.endswith(b"\n")
                if is_whole and not is_too_long:
                    with contextlib.suppress(ValidationError):
                        self._queue_event(event_from_line(line))
                is_too_long = not is_whole
        self._wake()

    def _queue_event(self, event: Event) -> None:
        while not self._is_closing.is_set():
            with contextlib.suppress(queue.Full):
                self._events.put(event, timeout=0.2)
                break
            self._wake()
        if not isinstance(event, _CAN_WAIT):
            self._wake()

    def _copy_to_log(self, stream: IO[bytes]) -> None:
        """Copy the stream to the log. It is read even if the log cannot be written: a full pipe stops the child."""
        descriptor = stream.fileno()
        with stream, contextlib.suppress(OSError):
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                self._log.write(chunk)
        self._wake()

    def _write_jobs(self, stream: IO[bytes]) -> None:
        """Write the queued jobs in order; then close the stream, which is the child's lifeline."""
        descriptor = stream.fileno()
        with contextlib.suppress(OSError), stream:
            while data := self._jobs.get():
                while data:
                    data = data[os.write(descriptor, data) :]

    @property
    def pid(self) -> int:
        """Return the pid of the process."""
        return self._tree.pid

    def send(self, job: Job) -> None:
        """Queue a job; never blocks.

        If the child has exited, `poll` returns its exit code; if it does not read the job, the silence timeout ends it.
        """
        if not self._is_cut:
            self._jobs.put(job.to_bytes())

    def redirect_log(self, log: Path) -> None:
        """Write all further output of the child to another log."""
        self._log.move_to(log)

    def events(self) -> list[Event]:
        """Return the events since the last call, at most `MAX_WAITING_EVENTS`; never blocks."""
        received: list[Event] = []
        with contextlib.suppress(queue.Empty):
            while len(received) < MAX_WAITING_EVENTS:
                received.append(self._events.get_nowait())
        return received

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs; never blocks."""
        return self._tree.poll()

    def terminate(self) -> None:
        """Ask it to end, by a signal (not on Windows) and by closing its lifeline.

        A script's lifeline is closed only on Windows: on other systems this would kill the script's workers at once.
        """
        self._tree.terminate()
        if self._sends_events or sys.platform == "win32":
            self._cut_lifeline()

    def kill(self) -> None:
        """Kill it and its descendants."""
        self._cut_lifeline()
        self._tree.kill()

    def reap(self) -> bool:
        """Release an ended child and kill its remaining descendants; return whether all have ended."""
        if self.poll() is None:
            return False
        self._cut_lifeline()
        is_released = self._tree.release()
        for thread in (self._writer, *self._readers):
            thread.join(_DRAIN_TIMEOUT_S)
        self._is_closing.set()
        self._log.close()
        return is_released

    def stop(self, grace_s: float) -> bool:
        """End it and its descendants; return whether all have ended.

        Waits up to `grace_s` after asking it to end, and up to `grace_s` again after killing it. If Windows is about to
        end this process, it waits less: its other children must end as well.
        """
        if is_closing():
            grace_s = min(grace_s, CLOSING_GRACE_S)
        self.terminate()
        if not self._tree.wait(grace_s):
            self.kill()
            if not self._tree.wait(grace_s):
                return False
        return self.reap()

    def _cut_lifeline(self) -> None:
        """Close the child's standard input after the jobs that are queued."""
        if not self._is_cut:
            self._is_cut = True
            self._jobs.put(b"")


def _start(spec: ChildSpec, stderr: int) -> ProcessTree:
    try:
        return ProcessTree(
            spec.arguments,
            project=spec.project,
            environment=_environment(spec),
            cwd=working_folder(spec.project),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    except (OSError, psutil.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DaemonError(
            f"{spec.arguments[0]} could not be started: {reason} "
            f"(command: {command_line(spec.arguments)}, in {shown_path(spec.project)})",
            hint="set python_executable to the full path of a Python with torch, or remove it",
            code="E_PYTHON",
        ) from None


def _environment(spec: ChildSpec) -> dict[str, str]:
    """Return the child's environment, without HOTLAP_ variables: a job contains all settings that it needs."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {name: value for name, value in inherited.items() if not name.startswith("HOTLAP_")}
    extra = [path for path in spec.search_path if path != CODE_ROOT]
    environment |= import_path(python=spec.arguments[0], extra=extra)
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


class ChildLauncher:
    """Starts real child processes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        """Start a child. Raises DaemonError if the program cannot be started."""
        return Child(spec, sends_events=sends_events, wake=self._wake)
