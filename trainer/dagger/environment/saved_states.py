"""Saved states of a game as bytes, also if the environment writes them to files: save_state(path), load_state(path)."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.common.user_code import describe
from trainer.dagger.environment.errors import HINT, EnvironmentRaisedError, StateError, in_environment
from trainer.dagger.environment.wrappers import find_attribute

_PATH_WORDS = ("path", "file", "fname", "filename", "filepath", "slot_path", "fp")
_BYTES_WORDS = ("bytes", "data", "buffer", "blob")
_NAME = "game.state"


class SavedStates:
    """The save_state and load_state of one environment, for bytes."""

    def __init__(self, env: Any) -> None:
        self._save, self._load = (_method(env, name) for name in ("save_state", "load_state"))
        self._saves_files = self._save is not None and _needs_argument(self._save)
        self._loads_files = self._load is not None and (self._saves_files or _takes_path(self._load))
        self._folder: Path | None = None
        self._files = 0
        self._remove_folder: Callable[[], Any] = lambda: None

    @property
    def exist(self) -> bool:
        """Return whether the environment can save and load its state."""
        return self._save is not None and self._load is not None

    def save(self) -> bytes:
        """Return the current state. Raises EnvironmentRaisedError."""
        assert self._save is not None
        save = self._save
        with in_environment("save_state()"):
            if self._saves_files:
                path = self._empty_file()
                return _content(save(str(path)), path)
            result = save()
            if result is None and self._loads_files:  # the path is optional, and without one nothing is returned
                path = self._empty_file()
                result = save(str(path))
                return _content(result, path)
        return _content(result, None)

    def load(self, state: bytes) -> Any:
        """Set a state, and return what load_state() returned. Raises StateError."""
        assert self._load is not None
        argument: Any = state
        if self._loads_files:
            argument = self._empty_file()
            argument.write_bytes(state)
            argument = str(argument)
        try:
            return self._load(argument)
        except (Exception, SystemExit) as error:
            hint = "remove the file; the previous milestone's expert creates it again"
            raise StateError(f"the start state cannot be loaded: {describe(error)}", hint=hint) from error

    def close(self) -> None:
        """Remove the files."""
        self._remove_folder()
        self._folder = None

    def _empty_file(self) -> Path:
        """Return the path of a file that does not exist, alone in its folder. The file before it is removed.

        Each file has a folder of its own, because an environment may keep its file open, which Windows does not remove.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="hotlap_state_"))
            self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        shutil.rmtree(self._folder / str(self._files), ignore_errors=True)
        self._files += 1
        folder = self._folder / str(self._files)
        folder.mkdir()
        return folder / _NAME


def _method(env: Any, name: str) -> Callable[..., Any] | None:
    method = find_attribute(env, name)
    return method if callable(method) else None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be given by position; none if the signature cannot be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]


def _needs_argument(function: Callable[..., Any]) -> bool:
    parameters = _parameters(function)
    return bool(parameters) and parameters[0].default is inspect.Parameter.empty


def _takes_path(function: Callable[..., Any]) -> bool:
    """Return whether the first parameter is a path, by its annotation or name."""
    parameters = _parameters(function)
    if not parameters:
        return False
    annotation = str(parameters[0].annotation)
    if "bytes" in annotation:
        return False
    words = parameters[0].name.lower().split("_")
    if any(word in words for word in _BYTES_WORDS):
        return False
    return "Path" in annotation or any(word in words for word in _PATH_WORDS)


def _content(result: Any, path: Path | None) -> bytes:
    """Return the state that save_state() returned or wrote. Raises EnvironmentRaisedError."""
    if path is not None:
        written = [path] if path.is_file() else [p for p in path.parent.iterdir() if p.is_file()]  # it added a suffix
        if len(written) == 1:
            return written[0].read_bytes()
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)
    if isinstance(result, np.ndarray) and result.dtype == np.uint8:
        return result.tobytes()
    if path is not None:
        raise EnvironmentRaisedError("the environment's save_state(path) did not write the file", hint=HINT)
    if isinstance(result, str | os.PathLike) and Path(result).is_file():
        return Path(result).read_bytes()
    raise EnvironmentRaisedError(
        f"the environment's save_state() returned {type(result).__name__} instead of bytes", hint=HINT
    )
