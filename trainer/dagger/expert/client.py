"""An expert as seen from here: a process that is asked for actions, and is ended where it hangs, dies or raves."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

import msgspec
import numpy as np

from schemas.errors import HotlapError
from schemas.program.children import child_environment, module_command
from trainer.dagger.actions import Actions, InvalidActionError, Labels
from trainer.dagger.expert.codec import pack, read_message

LOAD_S = 60.0
"""How long importing a policy file may take, s."""
_SLACK_S = 0.25
"""More than the other side holds answers back for."""
MAX_STATES_PER_MESSAGE = 256  #: states a message, so that pictures among them take no more memory than they must
_HINT = "see docs/dagger.md"


class ExpertError(HotlapError):
    """An expert that cannot be used. The code says in which way; the milestone fails with this line."""

    code = "E_EXPERT"


class Expert:
    """One expert's process. Use it with `with`; whatever happens in there, it is gone afterwards."""

    def __init__(self, path: Path, actions: Actions, *, call_limit_s: float, log: IO[bytes] | None = None) -> None:
        self._path, self._actions, self._limit_s, self._log = path, actions, call_limit_s, log
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self.labels_given = 0

    def __enter__(self) -> Self:
        if not self._path.is_file():
            raise ExpertError(
                f"the expert {self._path} is not there",
                hint="write it, with run(state) -> action",
                code="E_EXPERT_MISSING",
            )
        self._process = subprocess.Popen(
            module_command("trainer.dagger.expert.server"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=sys.platform != "win32",
            env=_quiet_environment(),
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
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
        given: list[Labels] = []
        for first in range(0, len(states), MAX_STATES_PER_MESSAGE):
            asked = states[first : first + MAX_STATES_PER_MESSAGE]
            self._send({"do": "label", "states": list(asked)})
            answers: list[Any] = []
            while len(answers) < len(asked):
                answers += self._answers()
            given += [self._checked(answer) for answer in answers]
        self.labels_given += len(given)
        return given

    def close(self) -> None:
        """End the process and whatever it started; may be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _load(self) -> None:
        self._send({"do": "load", "path": str(self._path.resolve())})
        said = self._next(LOAD_S, f"{self._name} was not loaded after {LOAD_S:g} s", "E_EXPERT_HUNG")
        if "raised" in said:
            raise ExpertError(f"{self._name} cannot be loaded: {said['raised']}", hint=_HINT, code="E_EXPERT_RAISED")
        if "missing" in said:
            raise ExpertError(f"{self._name} has no run()", hint="write run(state) -> action", code="E_EXPERT_NO_RUN")

    def _answers(self) -> list[Any]:
        hung = f"{self._name}: run() gave no answer within {self._limit_s:g} s"
        said = self._next(self._limit_s + _SLACK_S, hung, "E_EXPERT_HUNG")
        if "raised" in said:
            raise ExpertError(f"{self._name}: run() raised {said['raised']}", hint=_HINT, code="E_EXPERT_RAISED")
        answers: list[Any] = said["answers"]
        return answers

    def _checked(self, answer: Any) -> Labels:
        try:
            return self._actions.label(answer)
        except InvalidActionError as error:
            hint = f"give {_wanted(self._actions)}"
            raise ExpertError(f"{self._name}: run() gave {error}", hint=hint, code="E_EXPERT_NONSENSE") from None

    @property
    def _name(self) -> str:
        return f"the expert {self._path.name}"

    def _send(self, message: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pack(message))
            self._process.stdin.flush()
        except OSError:
            self._next(0.5, f"{self._name} does not listen", "E_EXPERT_DIED")

    def _next(self, limit_s: float, hung: str, code: str) -> dict[str, Any]:
        """Wait for the next message. Raises ExpertError where it does not come, or the process has ended."""
        try:
            said = self._inbox.get(timeout=limit_s)
        except queue.Empty:
            raise ExpertError(hung, hint="a hung expert fails its milestone; see --expert-timeout", code=code) from None
        if isinstance(said, dict):
            return said
        assert self._process is not None
        status = self._process.wait()
        reason = f"signal {-status}" if status < 0 else f"exit code {status}"
        raise ExpertError(f"{self._name} ended by itself with {reason}", hint="its log says more", code="E_EXPERT_DIED")

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(EOFError, OSError, ValueError, msgspec.MsgspecError):
            while True:
                self._inbox.put(read_message(process.stdout.read))
        self._inbox.put(None)


def _wanted(actions: Actions) -> str:
    if actions.kind == "discrete":
        return f"an index below {len(actions.names)} or one of {', '.join(actions.names)}"
    if actions.kind == "multi_binary":
        return f"{len(actions.names)} zeros and ones, an index, or names of {', '.join(actions.names)}"
    return f"{len(actions.names)} numbers: {', '.join(actions.names)}"


def _quiet_environment() -> dict[str, str]:
    """One thread for the expert's numpy: it shares the machine with the training."""
    return {**child_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def stack(labels: Sequence[Labels], actions: Actions) -> Labels:
    """Return labels as one array [n, ...]."""
    if not labels:
        return np.zeros((0, *actions.label_shape), actions.dtype)
    return np.stack(labels).astype(actions.dtype, copy=False)
