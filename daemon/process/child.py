"""The trainer as a child process: started, listened to, and ended with all its family."""

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
from daemon.process.group import process_group
from daemon.process.interpreter import command_line
from daemon.process.orphans import TOKEN_VARIABLE, kill_processes, new_token
from daemon.process.output_log import ChildLog
from daemon.runtime.clock import REAL_CLOCK
from schemas.job import EpochDone, Event, Heartbeat, Job, event_from_line
from schemas.program.children import CODE_ROOT, import_path, module_command
from schemas.settings.models import TrainerSettings

MAX_EVENT_BYTES = 1 << 20
MAX_WAITING_EVENTS = 1000
"""A child that says more than this between two looks waits: a flood of events must not fill our memory."""
_CAN_WAIT = (EpochDone, Heartbeat)
"""Progress: the pass that comes anyway is soon enough, and an extra one takes a core from training."""
_CHUNK_BYTES = 1 << 16
_DRAIN_TIMEOUT_S = 1.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start a child."""

    arguments: tuple[str, ...]
    folder: Path  #: its working folder
    log: Path  #: where its standard error goes, and its standard output where it speaks no events
    search_path: tuple[Path, ...]  #: for its imports
    project: Path  #: whose work it does


def trainer_command(python: str, *, folder: Path, log: Path, project: Path, settings: TrainerSettings) -> ChildSpec:
    """Return the command of our own trainer, which speaks events.

    It finds modules in the project only if the settings name some, and then after all others: a `random.py` in the
    project must not be imported in the place of Python's own.
    """
    user_code = ("--modules-in", str(project)) if settings.network or settings.loss else ()
    command = module_command("trainer", "serve", *user_code, python=python)
    return ChildSpec(command, folder, log, (CODE_ROOT,), project)


def script_command(
    python: str, script: Path, arguments: Sequence[str], *, folder: Path, log: Path, project: Path
) -> ChildSpec:
    """Return the command of a user's training script, wrapped so that it never outlives us."""
    wrapper = str(Path(__file__).with_name("script_wrapper.py"))
    return ChildSpec((python, "-P", "-u", wrapper, str(script), *arguments), folder, log, (CODE_ROOT,), project)


class Child:
    """A child process with its family; its standard input is its lifeline.

    Ending it has three steps that never wait: `ask`, `kill` where it does not obey, `release` once it has ended.
    """

    def __init__(self, spec: ChildSpec, *, speaks_events: bool, wake: Callable[[], None]) -> None:
        self.token = new_token(spec.project)
        self._speaks_events = speaks_events
        self._wake = wake
        self._events: queue.Queue[Event] = queue.Queue(MAX_WAITING_EVENTS)
        self._is_closing = threading.Event()
        self._jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._is_cut = False
        self._family: dict[int, psutil.Process] = {}
        self._containment = process_group()
        self._process = self._start(spec)
        self._log = ChildLog(spec.log)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._writer = self._thread(self._write, self._process.stdin)
        self._readers = [self._thread(self._listen if speaks_events else self._copy, self._process.stdout)]
        if self._process.stderr is not None:
            self._readers.append(self._thread(self._copy, self._process.stderr))

    def _start(self, spec: ChildSpec) -> subprocess.Popen[bytes]:
        process = None
        try:
            process = subprocess.Popen(
                spec.arguments,
                cwd=spec.folder,
                env=self._environment(spec),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if self._speaks_events else subprocess.STDOUT,
                **self._containment.options,
            )
            self._containment.assign(process.pid)
        except (OSError, psutil.Error) as error:
            self._containment.close()
            if process is not None:
                process.kill()
                process.communicate()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise DaemonError(
                f"{spec.arguments[0]} could not be started: {reason} "
                f"(command: {command_line(spec.arguments)}, in {spec.folder})",
                hint="check python_executable",
                code="E_PYTHON",
            ) from None
        return process

    def _environment(self, spec: ChildSpec) -> dict[str, str]:
        """Settings travel in the job, not in the environment: a run can be repeated from its job alone."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment = {name: value for name, value in inherited.items() if not name.startswith("HOTLAP_")}
        extra = [path for path in spec.search_path if path != CODE_ROOT]
        environment |= import_path(python=spec.arguments[0], extra=extra)
        environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
        environment["PYTHONUNBUFFERED"] = "1"
        environment[TOKEN_VARIABLE] = str(self.token)
        return environment

    @staticmethod
    def _thread(work: Callable[[IO[bytes]], None], stream: IO[bytes]) -> threading.Thread:
        thread = threading.Thread(target=work, args=(stream,), name=f"child-{work.__name__[1:]}", daemon=True)
        thread.start()
        return thread

    def _listen(self, stream: IO[bytes]) -> None:
        """Take events, line by line; a line too long to be one is passed over whole."""
        is_too_long = False
        with stream, contextlib.suppress(OSError, ValueError):
            while line := stream.readline(MAX_EVENT_BYTES):
                is_whole = line.endswith(b"\n")
                if is_whole and not is_too_long:
                    with contextlib.suppress(ValidationError):
                        self._offer(event_from_line(line))
                is_too_long = not is_whole
        self._wake()

    def _offer(self, event: Event) -> None:
        while not self._is_closing.is_set():
            with contextlib.suppress(queue.Full):
                self._events.put(event, timeout=0.2)
                break
            self._wake()
        if not isinstance(event, _CAN_WAIT):
            self._wake()

    def _copy(self, stream: IO[bytes]) -> None:
        """Keep the pipe empty, whatever becomes of the log: a full one would stop the child."""
        descriptor = stream.fileno()
        with stream, contextlib.suppress(OSError):
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                self._log.write(chunk)
        self._wake()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def send(self, job: Job) -> None:
        """Hand over a job; never blocks. One that is gone shows in `poll`, one that does not read in silence."""
        if not self._is_cut:
            self._jobs.put(job.to_bytes())

    def _write(self, stream: IO[bytes]) -> None:
        """Write jobs in their order, each whole; then cut the lifeline."""
        descriptor = stream.fileno()
        with contextlib.suppress(OSError), stream:
            while data := self._jobs.get():
                while data:
                    data = data[os.write(descriptor, data) :]

    def redirect_log(self, log: Path) -> None:
        """Let what it says from now on go to the end of another log."""
        self._log.move_to(log)

    def events(self) -> list[Event]:
        """Return what it said since the last call, at most `MAX_WAITING_EVENTS`; never blocks."""
        said: list[Event] = []
        with contextlib.suppress(queue.Empty):
            while len(said) < MAX_WAITING_EVENTS:
                said.append(self._events.get_nowait())
        return said

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs; never blocks.

        It looks without taking the process off the system's table where that can be done: until `release` its pid
        cannot become a stranger's.
        """
        if self._process.returncode is not None or sys.platform == "win32" or not hasattr(os, "waitid"):
            return self._process.poll()
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return self._process.poll()
        if ended is None:
            return None
        return int(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)

    def terminate(self) -> None:
        """Ask it to end: by a signal where there is one, and by the lifeline, which a script's family hears at once."""
        if self.poll() is None:
            self._note_family()
            self._containment.terminate(self.pid)
        if self._speaks_events or sys.platform == "win32":
            self._cut_lifeline()

    def kill(self) -> None:
        """Kill it and its family."""
        self._note_family()
        self._cut_lifeline()
        if self._process.returncode is None:
            self._containment.kill(self.pid)
        _kill_all(list(self._family.values()))

    def reap(self) -> bool:
        """After its end: kill what is left of its family and forget it. Gives False where something does not die."""
        if self.poll() is None:
            return False
        self.kill()
        left = kill_processes(lambda token: token == self.token)
        self._process.poll()
        self._containment.close()
        for thread in (self._writer, *self._readers):
            thread.join(_DRAIN_TIMEOUT_S)
        self._is_closing.set()
        self._log.close()
        return not left

    def stop(self, grace_s: float) -> bool:
        """End it and its family: wait `grace_s` for it to obey, as long again once killed. Tells whether it is gone."""
        self.terminate()
        if not self._ends_within(grace_s):
            self.kill()
            if not self._ends_within(grace_s):
                return False
        return self.reap()

    def _ends_within(self, seconds: float) -> bool:
        until = REAL_CLOCK.monotonic() + seconds
        while self.poll() is None:
            if REAL_CLOCK.monotonic() >= until:
                return False
            REAL_CLOCK.sleep(_POLL_S)
        return True

    def _cut_lifeline(self) -> None:
        """Close its standard input, once the job that is being written is; a child that is killed ends that as well."""
        if not self._is_cut:
            self._is_cut = True
            self._jobs.put(b"")

    def _note_family(self) -> None:
        """Remember the descendants while their parent still lives: orphans cannot be found through it."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                self._family[process.pid] = process


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


class ChildLauncher:
    """Starts real child processes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def start(self, spec: ChildSpec, *, speaks_events: bool) -> Child:
        """Start a child. Raises DaemonError where there is no such program."""
        return Child(spec, speaks_events=speaks_events, wake=self._wake)
