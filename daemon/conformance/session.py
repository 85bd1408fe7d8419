"""A project folder in which the suite is the daemon, with one client process."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from daemon.conformance.rollout_checks import Examined, Mistake, examine, repeats
from daemon.errors import DaemonError
from daemon.runtime.clock import REAL_CLOCK, Clock
from schemas.contract import PolicyContract
from schemas.errors import HotlapError
from schemas.model import Model, model_to_bytes
from schemas.process.exit_codes import exit_words
from schemas.process.tree import ProcessTree
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES, Rollout
from schemas.settings.models import AgentSettings
from schemas.status import DaemonState, Status
from schemas.storage.files import REAL_DISK, read_with_retries, sha256_of, write_atomic
from schemas.storage.layout import ProjectPaths, is_rollout_name
from schemas.storage.windows_paths import shown_path

PROJECT = "{project}"
"""This text in the client's command is replaced by the project folder."""
POLL_S = 0.02
_HEARTBEAT_S = 1.0
_READ_AT_ONCE = 3
_POINTER_LOOKS = 10
"""So many times in a row the client must have the pointer file open before this is reported."""


class Session:
    """The daemon's side of a project: publishes models, reads rollouts, and collects the client's mistakes."""

    def __init__(self, folder: Path, command: Sequence[str], agent: AgentSettings, clock: Clock = REAL_CLOCK) -> None:
        self.paths = ProjectPaths(folder)
        self.paths.make()
        self.contract: PolicyContract = agent.contract()
        self.hidden = tuple(agent.hidden_sizes)
        self.mistakes: list[Mistake] = []
        self.examined: list[Examined] = []
        self._command = tuple(command)
        self._rules = ReadingRules.of(agent, self.contract)
        self._clock = clock
        self._models: list[Model] = []  #: that the client may run
        self._wrong: list[Model] = []  #: that it must not run
        self._version = -1
        self._hashes: dict[str, str] = {}  #: rollout -> of its content, when it was read first
        self._published: dict[Path, bytes] = {}
        self._last: Rollout | None = None
        self._tree: ProcessTree | None = None
        self._state = DaemonState.IDLE
        self._next_heartbeat_s = 0.0
        self._looks_at_pointer = 0

    # --- the daemon's part --------------------------------------------------------------------------

    def publish(self, model: Model, *, point: bool = True) -> Path:
        """Write a model to a cycle folder of its own, and name it in the pointer file. Return its path."""
        path = self.paths.cycle_folder(model.policy_version) / "model_epoch_1.json"
        REAL_DISK.make_folder(path.parent)
        data = model_to_bytes(model)
        write_atomic(path, data, durable=False)
        self._published[path] = data
        if point:
            self.point_to(self.paths.for_engine(path))
        return path

    def next_version(self) -> int:
        """Return a policy version that no model has yet."""
        self._version += 1
        return self._version

    def expect(self, model: Model) -> None:
        """Add a model to those that the client may run."""
        self._models.append(model)

    def watch_for(self, model: Model) -> None:
        """Add a model to those that the client must not run, so that its rollouts are recognised."""
        self._wrong.append(model)

    @property
    def newest(self) -> Model:
        """Return the newest model that the client may run."""
        return self._models[-1]

    def has_version_since(self, first: int, version: int) -> bool:
        """Return whether a rollout was written with a model; `first` is how many rollouts to leave out."""
        return any(each.version == version for each in self.examined[first:])

    def point_to(self, text: str) -> None:
        """Write the pointer file."""
        write_atomic(self.paths.pointer, text.encode("utf-8"), durable=False)

    def half_written_pointer(self, text: str) -> None:
        """Write a part of the pointer file in place."""
        REAL_DISK.unlink(self.paths.pointer)
        REAL_DISK.write(self.paths.pointer, text.encode("utf-8"))

    def remove_pointer(self) -> None:
        """Remove the pointer file, as if it could not be opened."""
        REAL_DISK.unlink(self.paths.pointer)

    def set_state(self, state: DaemonState) -> None:
        """Write a state to status.json."""
        self._state = state
        self._next_heartbeat_s = 0.0
        self._heartbeat()

    def _heartbeat(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_heartbeat_s:
            return
        self._next_heartbeat_s = now + _HEARTBEAT_S
        version = self._models[-1].policy_version if self._models else 0
        utc_s = self._clock.utc_s()
        status = Status(
            state=self._state, step=self._state.value, cycle=version, rollouts_pending=0, rollouts_needed=1000,
            policy_version=version, best_model_path=None, heartbeat=utc_s, heartbeat_interval_s=_HEARTBEAT_S,
            pid=os.getpid(), create_time=utc_s, started_at=utc_s,
        )  # fmt: skip
        write_atomic(self.paths.status, status.to_bytes(), durable=False)

    # --- the client ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the client. Raises DaemonError if this is not possible."""
        project = shown_path(self.paths.project)
        words = [word.replace(PROJECT, project) for word in self._command]
        try:
            self._tree = ProcessTree(
                words,
                project=self.paths.project,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except (OSError, psutil.Error) as error:
            hint = "write the program's full path after `--`"
            raise DaemonError(f"{words[0]} could not be started: {error}", hint=hint, code="E_USAGE") from None

    def kill(self) -> None:
        """Kill the client at once, and look at what it left."""
        if self._tree is not None:
            self._tree.end()
            self._tree = None
        self.look()

    def is_running(self) -> bool:
        """Return whether the client runs."""
        return self._tree is not None and self._tree.poll() is None

    def ending(self) -> str:
        """Return in words how the client ended."""
        code = None if self._tree is None else self._tree.poll()
        return "no exit code" if code is None else exit_words(code)

    def report(self, heading: str, text: str) -> None:
        """Add a mistake, once."""
        mistake = Mistake(heading, text)
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)

    # --- looking ------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Look at the folder until a condition is met; return False after `timeout_s`, or if the client has ended."""
        until = self._clock.monotonic() + timeout_s
        while not condition():
            if self._clock.monotonic() >= until or not self.is_running():
                self.look()
                return condition()
            self._clock.sleep(POLL_S)
            self.look()
        return True

    def pass_time(self, seconds: float) -> None:
        """Look at the folder for some seconds."""
        self.wait(lambda: False, seconds)

    def look(self) -> None:
        """Read new rollouts, write the heartbeat, and check what the client must not change or hold."""
        self._heartbeat()
        self._look_at_pointer()
        unread = [path for path in self.paths.exports.iterdir() if is_rollout_name(path.name)]
        unread = sorted((path for path in unread if path.name not in self._hashes), key=_time_of)
        if len(unread) > _READ_AT_ONCE:  # a fast client writes more than can be read
            self._hashes |= {path.name: "" for path in unread[:-_READ_AT_ONCE]}
            self._last = None
        for path in unread[-_READ_AT_ONCE:]:
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            data = read_with_retries(path, limit=MAX_ROLLOUT_BYTES)
        except (OSError, HotlapError) as error:
            self.report("Rollout JSON", f"a rollout cannot be read: {error}")
            self._hashes[path.name] = ""
            return
        found = examine(path.name, data, self._rules, [*self._wrong, *self._models])
        if found.rollout is None and self._grows(path, data):
            text = "a rollout is written in place: write to a temporary name, then rename it"
            self.report("The folders", text)
            return  # it is read again when it is complete
        self._hashes[path.name] = sha256_of(data)
        self.examined.append(found)
        mistakes = list(found.mistakes)
        if found.rollout is not None:
            mistakes += repeats(found.rollout, self._last) if self._last is not None else []
            self._last = found.rollout
        for mistake in mistakes:
            self.report(mistake.heading, mistake.text)

    def _grows(self, path: Path, data: bytes) -> bool:
        for _ in range(20):
            self._clock.sleep(POLL_S)
            with contextlib.suppress(OSError):
                if path.stat().st_size != len(data):
                    return True
        return False

    def _look_at_pointer(self) -> None:
        """Report a client that keeps the pointer file open: on Windows, it then cannot be replaced."""
        is_open = False
        if self._tree is not None:
            with contextlib.suppress(psutil.Error, OSError):
                pointer = str(self.paths.pointer)
                is_open = any(file.path == pointer for file in psutil.Process(self._tree.pid).open_files())
        self._looks_at_pointer = self._looks_at_pointer + 1 if is_open else 0
        if self._looks_at_pointer >= _POINTER_LOOKS:
            text = "the client keeps best_model_path.txt open, which delays publishing on Windows: read it and close it"
            self.report("The folders", text)

    def check_files(self) -> None:
        """Report what the client changed although it must not: published models, and rollouts that were renamed."""
        for path, data in self._published.items():
            if not path.is_file() or path.read_bytes() != data:
                self.report("The folders", "a published model was changed or removed: only read files in Models")
        for name, sha256 in self._hashes.items():
            path = self.paths.exports / name
            if sha256 and (not path.is_file() or sha256_of(path.read_bytes()) != sha256):
                text = "a rollout was changed, or its name was used again: use each name once, also after a restart"
                self.report("The folders", text)


def _time_of(path: Path) -> tuple[int, str]:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns, path.name
    return 0, path.name
