"""States are bytes for Hotlap, also if the environment writes and reads files."""

from pathlib import Path

import numpy as np
import pytest

from trainer.dagger.environment.errors import EnvironmentRaisedError, StateError
from trainer.dagger.environment.saved_states import SavedStates


class Bytes:
    x = 5

    def save_state(self):
        return str(self.x).encode()

    def load_state(self, state):
        self.x = int(state)


class OptionalBytes(Bytes):
    """The state comes first, and a path can be given instead."""

    def load_state(self, state_bytes: bytes | None = None, path=None):
        self.x = int(state_bytes)


class Paths(Bytes):
    def save_state(self, path):
        Path(path).write_text(str(self.x))

    def load_state(self, path):
        self.x = int(Path(path).read_text())


class OtherName(Paths):
    def save_state(self, where):
        super().save_state(where)

    def load_state(self, where):
        super().load_state(where)


class OptionalPath(Paths):
    """As in wrappers of emulators: without a path the state is returned."""

    def save_state(self, path=None):
        return str(self.x).encode() if path is None else super().save_state(path)


class OnlyWrites(Paths):
    def save_state(self, path=None):
        if path is not None:
            super().save_state(path)


class AddsSuffix(Paths):
    def save_state(self, path):
        np.save(path, self.x)

    def load_state(self, path: Path):
        self.x = int(np.load(path))


class ReturnsPath(Paths):
    def __init__(self, folder=None):
        self.folder = folder

    def save_state(self):
        super().save_state(self.folder / "slot1")
        return self.folder / "slot1"


class ReturnsArray(Bytes):
    def save_state(self):
        return np.frombuffer(str(self.x).encode(), np.uint8)


KINDS = [Bytes, OptionalBytes, Paths, OtherName, OptionalPath, OnlyWrites, AddsSuffix, ReturnsArray, ReturnsPath]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_state_survives_saving_and_loading(kind, tmp_path):
    env = kind(tmp_path) if kind is ReturnsPath else kind()
    states = SavedStates(env)
    state = states.save()
    assert isinstance(state, bytes)
    env.x = 9
    second = states.save()
    states.load(state)
    assert env.x == 5
    states.load(second)
    assert env.x == 9
    folder = states._folder
    states.close()
    assert folder is None or not folder.exists()


def test_without_methods_there_are_no_states():
    assert not SavedStates(object()).exist
    assert SavedStates(Bytes()).exist


@pytest.mark.parametrize(
    ("save_state", "message"),
    [
        (lambda self: 5, "save_state() returned int instead of bytes"),
        (lambda self: None, "save_state() returned NoneType instead of bytes"),
        (lambda self: {"x": 5}, "save_state() returned dict instead of bytes"),
        (lambda self, path: None, "save_state(path) did not write the file"),
        (lambda self: 1 / 0, "save_state() raised ZeroDivisionError: division by zero (test_saved_states.py, line"),
    ],
)
def test_what_is_not_a_state_is_refused(save_state, message):
    states = SavedStates(type("Faulty", (Bytes,), {"save_state": save_state})())
    with pytest.raises(EnvironmentRaisedError) as caught:
        states.save()
    assert message in str(caught.value)


def test_a_state_that_cannot_be_loaded_names_the_line():
    with pytest.raises(StateError, match=r"cannot be loaded: ValueError: .* \(test_saved_states\.py, line \d+\)"):
        SavedStates(Paths()).load(b"torn")
