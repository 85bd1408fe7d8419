"""What an action is: a choice, a set of buttons or real numbers; an expert's answer made into a label, or refused.

Policies and labels speak units of their own: an index, zeros and ones, or numbers in [-1, 1]. Real-valued bounds
inside [-1, 1] are units already; others are stretched to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.contract import ActionSpace, ContinuousActions, DiscreteActions
from schemas.errors import ConfigError

Labels = NDArray[Any]
"""[n] int64 choices, [n, A] uint8 buttons or [n, A] float32 numbers."""


class InvalidActionError(ValueError):
    """An answer that is no action of this environment. The message says why."""


@dataclass(frozen=True, slots=True)
class Actions:
    """An environment's actions."""

    kind: Literal["discrete", "multi_binary", "continuous"]
    names: tuple[str, ...]  #: of the choices, the buttons or the numbers
    low: tuple[float, ...] = ()  #: continuous: the environment's bounds
    high: tuple[float, ...] = ()
    first: int = 0  #: discrete: the environment's number of the first choice

    @property
    def dtype(self) -> type[Any]:
        """What labels are stored as."""
        return {"discrete": np.int64, "multi_binary": np.uint8, "continuous": np.float32}[self.kind]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of one label."""
        return () if self.kind == "discrete" else (len(self.names),)

    def space(self) -> ActionSpace:
        """What the model JSON says. A button is a number in [-1, 1] that is pressed where it is above 0."""
        if self.kind == "discrete":
            return DiscreteActions(n=len(self.names))
        if self.kind == "multi_binary":
            return ContinuousActions(names=self.names, low=(-1.0,) * len(self.names), high=(1.0,) * len(self.names))
        low, high = (self.low, self.high) if self._in_units() else ((-1.0,) * len(self.low), (1.0,) * len(self.high))
        return ContinuousActions(names=self.names, low=low, high=high)

    def _in_units(self) -> bool:
        return min(self.low) >= -1.0 and max(self.high) <= 1.0

    def label(self, answer: Any) -> Labels:
        """Make a label of an expert's answer: an index, a name or an array. Raises InvalidActionError."""
        if isinstance(answer, str) or (isinstance(answer, list) and answer and all(isinstance(a, str) for a in answer)):
            return self._named([answer] if isinstance(answer, str) else answer)
        try:
            if answer is None:
                raise TypeError
            given = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError):
            raise InvalidActionError(f"{_brief(answer)} is no action") from None
        if not np.isfinite(given).all():
            raise InvalidActionError(f"{_brief(answer)} is not finite")
        if self.kind == "discrete":
            return self._choice(given, answer)
        if self.kind == "multi_binary" and given.shape == ():
            return self._pressed([self._index(float(given), answer)])
        if given.shape != (len(self.names),):
            raise InvalidActionError(f"{_brief(answer)} has shape {given.shape}, not ({len(self.names)},)")
        if self.kind == "multi_binary":
            if not np.isin(given, (0.0, 1.0)).all():
                raise InvalidActionError(f"{_brief(answer)}: a button is 0 or 1")
            return given.astype(np.uint8)
        low, high = np.array(self.low), np.array(self.high)
        inside = np.clip(given, low, high)
        return (inside if self._in_units() else 2.0 * (inside - low) / (high - low) - 1.0).astype(np.float32)

    def for_env(self, label: Labels) -> Any:
        """Return what the environment's `step` takes."""
        if self.kind == "discrete":
            return int(label) + self.first
        if self.kind == "multi_binary":
            return label.astype(np.int8)
        low, high = np.array(self.low), np.array(self.high)
        wanted = label if self._in_units() else low + (label + 1.0) * (high - low) / 2.0
        return np.clip(wanted, low, high).astype(np.float32)

    def _named(self, names: Sequence[str]) -> Labels:
        if self.kind == "continuous":
            raise InvalidActionError(f"{_brief(names)}: real-valued actions are arrays, not names")
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise InvalidActionError(f"{_brief(unknown[0])} is none of the actions {', '.join(self.names)}")
        places = [self.names.index(name) for name in names]
        if self.kind == "multi_binary":
            return self._pressed(places)
        if len(places) != 1:
            raise InvalidActionError(f"{_brief(names)}: one action, not {len(places)}")
        return np.asarray(places[0], np.int64)

    def _choice(self, given: NDArray[np.float64], answer: Any) -> Labels:
        if given.size != 1:
            raise InvalidActionError(f"{_brief(answer)} is no choice")
        return np.asarray(self._index(float(given.reshape(())) - self.first, answer), np.int64)

    def _index(self, number: float, answer: Any) -> int:
        if number != int(number) or not 0 <= number < len(self.names):
            raise InvalidActionError(f"{_brief(answer)} is no index of {len(self.names)} actions")
        return int(number)

    def _pressed(self, places: Sequence[int]) -> Labels:
        buttons = np.zeros(len(self.names), np.uint8)
        buttons[list(places)] = 1
        return buttons


def _brief(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 60 else f"{text[:57]}..."


def actions_of(env: Any) -> Actions:
    """Read an environment's action space. Raises ConfigError where no policy can be made for it."""
    from gymnasium import spaces

    space = env.action_space
    match space:
        case spaces.Discrete():
            return Actions("discrete", _names_of(env, int(space.n)), first=int(space.start))
        case spaces.MultiBinary() if isinstance(space.n, (int, np.integer)):
            return Actions("multi_binary", _names_of(env, int(space.n)))
        case spaces.Box() if len(space.shape) == 1 and space.is_bounded():
            low, high = (tuple(float(x) for x in bound) for bound in (space.low, space.high))
            return Actions("continuous", _names_of(env, len(low)), low, high)
    raise ConfigError(
        f"actions {space} cannot be learned", hint="use Discrete, MultiBinary or a one-dimensional bounded Box"
    )


def _names_of(env: Any, count: int) -> tuple[str, ...]:
    """Return the environment's names for its actions, where it has as many as there are actions."""
    for place in ("action_names", "buttons"):
        names = getattr(env, place, None)
        if names is not None and len(names) == count:
            return tuple(str(name) for name in names)
    meanings = getattr(env, "get_action_meanings", None)
    if callable(meanings):
        found = [str(name) for name in meanings()]
        if len(found) == count:
            return tuple(found)
    return tuple(f"action_{i}" for i in range(count))
