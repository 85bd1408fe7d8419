"""The client of an expert: it starts the expert's process, requests actions, and ends the process if it hangs."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from schemas.errors import HotlapError
from schemas.process.exit_codes import exit_words, remedy
from schemas.process.tree import ProcessTree
from schemas.program.children import child_environment, module_command
from schemas.storage.windows_paths import shown_path
from trainer.dagger.actions import ActionSpec, InvalidActionError, Labels
from trainer.dagger.expert.codec import pack, read_message

LOAD_TIMEOUT_S = 60.0
"""Time limit for the import of an expert's file."""
_SLACK_S = 0.25
"""Longer than the server waits before it sends actions, see `server.SEND_INTERVAL_S`."""
MAX_STATES_PER_MESSAGE = 256
"""A limit, because states can contain images."""
_HINT = "see `hotlap docs dagger`"


class ExpertError(HotlapError):
    """An expert that cannot be used. Its milestone fails with this reason."""

    code = "E_EXPERT"


class Expert:
    """One expert's process. It starts and ends with the `with` block."""

    def __init__(self, path: Path, actions: ActionSpec, *, call_timeout_s: float, log: IO[bytes] | None = None) -> None:
        self._path, self._actions, self._call_timeout_s, self._log = path, actions, call_timeout_s, log
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tree: ProcessTree | None = None

    def __enter__(self) -> Self:
        if not self._path.is_file():
            raise ExpertError(
                f"the expert {shown_path(self._path)} does not exist",
                hint=f"write it: a file with the function run(state); {_HINT}",
                code="E_EXPERT_MISSING",
            )
        self._tree = ProcessTree(
            module_command("trainer.dagger.expert.server"),
            project=self._path.parent,
            environment=_quiet_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        threading.Thread(target=self._listen, args=(self._tree.process,), daemon=True).start()
        try:
            self._load()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seed(self, seed: int) -> None:
        """Seed the expert's `random` and `numpy.random`, for experts that use them."""
        self._send({"do": "seed", "seed": seed})

    def label(self, states: Sequence[Any]) -> list[Labels]:
        """Return the expert's action in each state, as labels. Raises ExpertError."""
        labels: list[Labels] = []
        for first in range(0, len(states), MAX_STATES_PER_MESSAGE):
            part = list(states[first : first + MAX_STATES_PER_MESSAGE])
            self._send({"do": "act", "states": part})
            actions: list[Any] = []
            while len(actions) < len(part):
                actions += self._receive_actions()
            labels += [self._label(action) for action in actions]
        return labels

    def close(self) -> None:
        """End the process and all processes that it started. A second call does nothing."""
        tree, self._tree = self._tree, None
        if tree is None:
            return
        tree.end()
        for pipe in (tree.process.stdin, tree.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _load(self) -> None:
        self._send({"do": "load", "path": str(self._path.resolve())})
        answer = self._receive(
            LOAD_TIMEOUT_S,
            f"{self._name} was not loaded within {LOAD_TIMEOUT_S:g} s",
            "do less work when the file is imported",
        )
        if "raised" in answer:
            raise ExpertError(f"{self._name} cannot be loaded: {answer['raised']}", hint=_HINT, code="E_EXPERT_RAISED")
        if "missing" in answer:
            raise ExpertError(f"{self._name} has no function run(state)", hint=_HINT, code="E_EXPERT_NO_RUN")

    def _receive_actions(self) -> list[Any]:
        answer = self._receive(
            self._call_timeout_s + _SLACK_S,
            f"{self._name}: run() did not return within {self._call_timeout_s:g} s",
            "make it faster, or raise --expert-timeout",
        )
        if "raised" in answer:
            raise ExpertError(f"{self._name}: run() raised {answer['raised']}", hint=_HINT, code="E_EXPERT_RAISED")
        actions: list[Any] = answer["actions"]
        return actions

    def _label(self, action: Any) -> Labels:
        try:
            return self._actions.label(action)
        except InvalidActionError as error:
            hint = f"return {self._actions.in_words()}"
            raise ExpertError(f"{self._name}: run() returned {error}", hint=hint, code="E_EXPERT_NONSENSE") from None

    @property
    def _name(self) -> str:
        return f"the expert {self._path.name}"

    def _send(self, message: Any) -> None:
        assert self._tree is not None
        stdin = self._tree.process.stdin
        assert stdin is not None
        try:
            stdin.write(pack(message))
            stdin.flush()
        except OSError:
            self._receive(
                0.5, f"{self._name} does not read its states", "see the milestone's log", code="E_EXPERT_DIED"
            )

    def _receive(self, timeout_s: float, problem: str, hint: str, *, code: str = "E_EXPERT_HUNG") -> dict[str, Any]:
        """Return the next message. Raises ExpertError if the process ended, or with `problem` at the timeout."""
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            raise ExpertError(problem, hint=hint, code=code) from None
        if isinstance(message, dict):
            return message
        assert self._tree is not None
        status = self._tree.process.wait()
        hint = "; ".join(filter(None, (remedy(status), "see the milestone's log")))
        raise ExpertError(
            f"the process of {self._name} ended with {exit_words(status)}", hint=hint, code="E_EXPERT_DIED"
        )

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(EOFError, OSError, ValueError, msgspec.MsgspecError):
            while True:
                self._messages.put(read_message(process.stdout.read))
        self._messages.put(None)


def _quiet_environment() -> dict[str, str]:
    """Return an environment in which numpy has one thread, because the training uses the other cores."""
    return {**child_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
