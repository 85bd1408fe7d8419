"""The trainer as a child process: started, listened to, and ended with all its family."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
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
from schemas.job import Event, Job, event_from_line

CODE_ROOT = Path(__file__).resolve().parent.parent
MAX_EVENT_BYTES = 1 << 20
TOKEN_VARIABLE = "HOTLAP_RUN_TOKEN"


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a child."""

    arguments: tuple[str, ...]
    folder: Path  #: its working folder
    log: Path  #: where its standard error goes, and its standard output where it speaks no events
    search_path: tuple[Path, ...]  #: for its imports


def python_for(executable: str) -> str:
    """Give the Python that runs trainers. Raises DaemonError where `executable` is none."""
    if not executable:
        return sys.executable
    path = Path(executable).expanduser()
    if not path.is_file():
        raise DaemonError(
            f"python_executable {executable} is not there",
            hint="give the full path of a python with torch, or leave it empty",
            code="E_PYTHON",
        )
    if not os.access(path, os.X_OK):
        raise DaemonError(
            f"python_executable {executable} cannot be executed", hint="check its rights", code="E_PYTHON"
        )
    return str(path)


def script_for(training_script: str, project: Path) -> Path:
    """Give the user's training script, relative to the project. Raises DaemonError where it is not there."""
    script = project / training_script
    if not script.is_file():
        raise DaemonError(
            f"training_script {training_script} is not there",
            hint="give its path, relative to the project folder or absolute",
            code="E_SCRIPT",
        )
    return script


def check_python(executable: str) -> None:
    """Make sure that `executable` is a Python of at least 3.11. Raises DaemonError naming what is wrong."""
    python = python_for(executable)
    if python == sys.executable:
        return
    probe = [python, "-I", "-c", "import sys; print('hotlap', *sys.version_info[:2])"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
        answer = done.stdout.split()
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        answer = []
    if len(answer) != 3 or answer[0] != "hotlap":
        raise DaemonError(
            f"python_executable {executable} is no Python",
            hint="give the full path of a python with torch, or leave it empty",
            code="E_PYTHON",
        )
    if (int(answer[1]), int(answer[2])) < (3, 11):
        raise DaemonError(
            f"python_executable is Python {answer[1]}.{answer[2]}", hint="3.11 or newer is needed", code="E_PYTHON"
        )


def trainer_command(python: str, *, folder: Path, log: Path, project: Path) -> Command:
    """Give the command of our own trainer, which speaks events."""
    return Command((python, "-P", "-m", "trainer", "serve"), folder, log, (CODE_ROOT, project))


def script_command(python: str, script: Path, arguments: Sequence[str], *, folder: Path, log: Path) -> Command:
    """Give the command of a user's training script, wrapped so that it never outlives us."""
    wrapper = str(Path(__file__).with_name("child.py"))
    return Command((python, "-P", "-u", wrapper, str(script), *arguments), folder, log, (CODE_ROOT,))


class Child:
    """A child process in its own session or process group; its standard input is its lifeline."""

    def __init__(self, command: Command, *, speaks_events: bool, wake: Callable[[], None]) -> None:
        self.token = secrets.token_hex(8)
        self._wake = wake
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with command.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command.arguments,
                    cwd=command.folder,
                    env=self._environment(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if speaks_events else log,
                    stderr=log,
                    start_new_session=sys.platform != "win32",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            except OSError as error:
                raise DaemonError(
                    f"{command.arguments[0]} could not be started: {error.strerror}",
                    hint="check python_executable",
                    code="E_PYTHON",
                ) from None
        self._family: dict[int, psutil.Process] = {}
        self._is_swept = False
        if speaks_events:
            assert self._process.stdout is not None
            threading.Thread(
                target=self._listen, args=(self._process.stdout,), name="trainer-events", daemon=True
            ).start()

    def _environment(self, command: Command) -> dict[str, str]:
        """Settings travel in the job, not in the environment: a run can be repeated from its job alone."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOTLAP_")}
        paths = [str(path) for path in command.search_path]
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([*paths, inherited] if inherited else paths)
        environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
        environment["PYTHONUNBUFFERED"] = "1"
        environment[TOKEN_VARIABLE] = self.token
        return environment

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(MAX_EVENT_BYTES):
                try:
                    self._events.put(event_from_line(line))
                except ValidationError:
                    continue
                self._wake()
        self._wake()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def give(self, job: Job) -> None:
        """Hand over the job. A trainer that is gone by now shows in `poll`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(job.to_bytes())
            self._process.stdin.flush()
        except OSError:
            return

    def events(self) -> list[Event]:
        """Give what it said since the last call; never blocks."""
        said = []
        while not self._events.empty():
            said.append(self._events.get())
        return said

    def poll(self) -> int | None:
        """Give the exit code, or None while it runs; never blocks."""
        return self._process.poll()

    def stop(self, grace_s: float) -> None:
        """End it and all its children: close its lifeline, wait up to `grace_s`, kill."""
        self._note_family()
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self._note_family()
            self._process.kill()
        _kill_all(list(self._family.values()))
        self._sweep_group()
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            return

    def _sweep_group(self) -> None:
        """Kill what is left of its session, once: orphans of a child that ended by itself are found by nothing else."""
        if sys.platform != "win32" and not self._is_swept:
            self._is_swept = True
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def _note_family(self) -> None:
        """Remember the descendants while their parent still lives: orphans cannot be found through it."""
        try:
            for process in psutil.Process(self.pid).children(recursive=True):
                self._family[process.pid] = process
        except psutil.Error:
            return


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(processes, timeout=2.0)


def last_line(log: Path, *, limit: int = 8192) -> str:
    """Give the last line of a log that says something, for a message to people."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - limit))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
