"""The action space of an environment, and the labels that are made from an expert's actions.

A label is an index, an array of zeros and ones, or an array of normalised numbers. If all bounds are inside [-1, 1],
numbers are used as they are; otherwise the bounds are mapped to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.contract import ActionSpace, ContinuousActions, DiscreteActions
from schemas.errors import ConfigError
from trainer.dagger.environment.wrappers import find_attribute

Labels = NDArray[Any]
"""[n] int64 choices, [n, A] uint8 buttons or [n, A] float32 numbers."""
_MAX_CHARACTERS = 60


class InvalidActionError(ValueError):
    """A value that is not an action of this environment. The message states why."""


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """An environment's action space."""

    kind: Literal["discrete", "multi_binary", "continuous"]
    names: tuple[str, ...]  #: names of the choices, the buttons or the numbers
    low: tuple[float, ...] = ()  #: continuous: the environment's bounds
    high: tuple[float, ...] = ()
    first: int = 0  #: discrete: the environment's number of the first choice

    @property
    def label_dtype(self) -> type[Any]:
        """Return the type of stored labels."""
        return {"discrete": np.int64, "multi_binary": np.uint8, "continuous": np.float32}[self.kind]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return the shape of one label."""
        return () if self.kind == "discrete" else (len(self.names),)

    def model_space(self) -> ActionSpace:
        """Return the action space of the model JSON. A button is a number in [-1, 1] that is pressed above 0."""
        if self.kind == "discrete":
            return DiscreteActions(n=len(self.names))
        if self.kind == "multi_binary" or not self._is_normalised():
            count = len(self.names)
            return ContinuousActions(names=self.names, low=(-1.0,) * count, high=(1.0,) * count)
        return ContinuousActions(names=self.names, low=self.low, high=self.high)

    def _is_normalised(self) -> bool:
        return min(self.low) >= -1.0 and max(self.high) <= 1.0

    def label(self, action: Any) -> Labels:
        """Return the label of an action that an expert returned. Raises InvalidActionError."""
        if isinstance(action, str):
            return self._label_of_names([action])
        if isinstance(action, list | tuple) and action and all(isinstance(name, str) for name in action):
            return self._label_of_names(action)
        try:
            if action is None:
                raise TypeError
            numbers = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):
            raise InvalidActionError(f"{_format_action(action)}, which is not an action") from None
        if not np.isfinite(numbers).all():
            raise InvalidActionError(f"{_format_action(action)}, which is not finite")
        if self.kind == "discrete":
            if numbers.size != 1:
                raise InvalidActionError(f"{_format_action(action)}: {numbers.size} numbers instead of one index")
            index = self._index(float(numbers.reshape(())) - self.first, action)
            return np.asarray(index, np.int64)
        if self.kind == "multi_binary" and numbers.shape == ():
            return self._label_of_buttons([self._index(float(numbers), action)])
        if numbers.shape != (len(self.names),):
            raise InvalidActionError(
                f"{_format_action(action)} of shape {numbers.shape} instead of ({len(self.names)},)"
            )
        if self.kind == "multi_binary":
            if not np.isin(numbers, (0.0, 1.0)).all():
                raise InvalidActionError(f"{_format_action(action)}, but a button is 0 or 1")
            return numbers.astype(np.uint8)
        return self._normalised(numbers)

    def env_action(self, label: Labels) -> Any:
        """Return the action of a label as the environment's `step` expects it."""
        if self.kind == "discrete":
            return int(label) + self.first
        if self.kind == "multi_binary":
            return label.astype(np.int8)
        low, high = np.array(self.low), np.array(self.high)
        numbers = label if self._is_normalised() else low + (label + 1.0) * (high - low) / 2.0
        return np.clip(numbers, low, high).astype(np.float32)

    def idle_label(self, choice: int) -> Labels:
        """Return a label that does the least: a choice, no button, or the numbers that are nearest to 0."""
        if self.kind == "discrete":
            return np.asarray(choice, np.int64)
        if self.kind == "multi_binary":
            return np.zeros(len(self.names), np.uint8)
        return self._normalised(np.zeros(len(self.names)))

    def different_labels(self) -> list[Labels]:
        """Return a few labels that differ as much as possible."""
        count = len(self.names)
        if self.kind == "discrete":
            return [np.asarray(k, np.int64) for k in sorted({0, count // 3, 2 * count // 3, count - 1})]
        if self.kind == "multi_binary":
            return [np.full(count, flag, np.uint8) for flag in (0, 1)]
        return [self._normalised(np.array(numbers)) for numbers in (self.low, self.high)]

    def stack(self, labels: Sequence[Labels]) -> Labels:
        """Return labels as one array [n, ...]."""
        if not labels:
            return np.zeros((0, *self.label_shape), self.label_dtype)
        return np.stack(labels).astype(self.label_dtype, copy=False)

    def in_words(self) -> str:
        """Return a description of valid expert actions, for messages."""
        names = ", ".join(self.names)
        if self.kind == "discrete":
            last = self.first + len(self.names) - 1
            return f"a whole number from {self.first} to {last}, or one of the names {names}"
        if self.kind == "multi_binary":
            return f"{len(self.names)} zeros and ones, an index, or some of the names {names}"
        return f"an array of {len(self.names)} numbers: {names}"

    def _normalised(self, numbers: NDArray[np.float64]) -> Labels:
        low, high = np.array(self.low), np.array(self.high)
        clamped = np.clip(numbers, low, high)
        return (clamped if self._is_normalised() else 2.0 * (clamped - low) / (high - low) - 1.0).astype(np.float32)

    def _label_of_names(self, names: Sequence[str]) -> Labels:
        if self.kind == "continuous":
            raise InvalidActionError(f"{_format_action(names[0])}, but real-valued actions have no names")
        indices = []
        for name in names:
            index = self._index_of_name(name)
            if index is None:
                raise InvalidActionError(f"{_format_action(name)}, which is not the name of an action")
            indices.append(index)
        if self.kind == "multi_binary":
            return self._label_of_buttons(indices)
        if len(indices) != 1:
            raise InvalidActionError(f"{_format_action(names)}: {len(indices)} actions instead of one")
        return np.asarray(indices[0], np.int64)

    def _index_of_name(self, name: str) -> int | None:
        """Return the index of a name, also in another case if it is clear; None if it is unknown."""
        if name in self.names:
            return self.names.index(name)
        same = [k for k, known in enumerate(self.names) if known.casefold() == name.casefold()]
        return same[0] if len(same) == 1 else None

    def _index(self, number: float, action: Any) -> int:
        if number != int(number) or not 0 <= number < len(self.names):
            raise InvalidActionError(
                f"{_format_action(action)}, which is not an index of one of the {len(self.names)} actions"
            )
        return int(number)

    def _label_of_buttons(self, indices: Sequence[int]) -> Labels:
        buttons = np.zeros(len(self.names), np.uint8)
        buttons[list(indices)] = 1
        return buttons


def _format_action(action: Any) -> str:
    text = repr(action)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."


def read_action_spec(env: Any) -> ActionSpec:
    """Return an environment's action space. Raises ConfigError if policies cannot have such actions."""
    from gymnasium import spaces

    space = env.action_space
    match space:
        case spaces.Discrete():
            return ActionSpec("discrete", _action_names(env, int(space.n)), first=int(space.start))
        case spaces.MultiBinary() if isinstance(space.n, (int, np.integer)):
            return ActionSpec("multi_binary", _action_names(env, int(space.n)))
        case spaces.Box() if len(space.shape) == 1 and space.is_bounded():
            low, high = (tuple(float(x) for x in bound) for bound in (space.low, space.high))
            return ActionSpec("continuous", _action_names(env, len(low)), low, high)
    raise ConfigError(
        f"DAgger cannot learn the action space {space}",
        hint="use Discrete, MultiBinary, or a bounded one-dimensional Box",
    )


def _action_names(env: Any, count: int) -> tuple[str, ...]:
    """Return the environment's names of its actions if it has one for each, else action_0, action_1, ..."""
    for attribute in ("action_names", "buttons"):
        names = find_attribute(env, attribute)
        if names is not None and not callable(names) and len(names) == count:
            return tuple(str(name) for name in names)
    get_meanings = find_attribute(env, "get_action_meanings")
    if callable(get_meanings):
        meanings = [str(name) for name in get_meanings()]
        if len(meanings) == count:
            return tuple(meanings)
    return tuple(f"action_{i}" for i in range(count))
