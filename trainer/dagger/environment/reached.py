"""Which milestones an environment reports in `info["milestones"]`, in the forms that environments use.

Names: a text (also several, separated by commas or spaces), or a list, set or array of texts. Flags: a dict from names
to flags, to None, or to objects with a flag such as {"completed": true}; or a list of objects with a name and a flag.
Everything else raises an exception: a value that is guessed wrong would be a success that did not happen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

import numpy as np

_NAME_KEYS = ("id", "name", "milestone")
_FLAG_KEYS = ("completed", "reached", "done", "achieved", "success")
_SEPARATORS = re.compile(r"[\s,;|]+")
_NAMES = re.compile(r"[A-Za-z0-9_.\-\s,;|]*")
_MAX_CHARACTERS = 60


class UnclearMilestonesError(ValueError):
    """A value that does not say clearly which milestones are reached. The message states why."""


def reached_milestones(value: Any) -> frozenset[str]:
    """Return the ids of the milestones that are reached. Raises UnclearMilestonesError."""
    if value is None:
        return frozenset()
    if isinstance(value, str | bytes | Enum):
        return _names_in_text(_text(value))
    if isinstance(value, Mapping):
        return frozenset(_text(name) for name, flag in value.items() if _is_reached(flag, _shown(name)))
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return reached_milestones(value.item())
        return reached_milestones(value.tolist())
    if isinstance(value, Collection):
        return frozenset().union(*(_names_of_item(item) for item in value))
    raise UnclearMilestonesError(f"{_shown(value)}, which does not name a milestone")


def _names_in_text(text: str) -> frozenset[str]:
    if not _NAMES.fullmatch(text):
        raise UnclearMilestonesError(f"the text {_shown(text)}, which is not the id of a milestone")
    return frozenset(name for name in _SEPARATORS.split(text) if name)


def _names_of_item(item: Any) -> frozenset[str]:
    """Return the name in an item of a list, if its milestone is reached."""
    if isinstance(item, str | bytes | Enum):
        return frozenset([_text(item)])
    if isinstance(item, Mapping):
        name = next((item[key] for key in _NAME_KEYS if key in item), None)
        if isinstance(name, str) and any(key in item for key in _FLAG_KEYS):
            return frozenset([name] if _is_reached(item, _shown(name)) else [])
    if isinstance(item, bool | np.bool_):
        raise UnclearMilestonesError("a list of flags, which does not say whose they are")
    raise UnclearMilestonesError(f"a list with {_shown(item)}, which is not the id of a milestone")


def _is_reached(flag: Any, name: str) -> bool:
    """Return whether a flag is set. Raises UnclearMilestonesError if it is not a flag."""
    if flag is None:
        return False
    if isinstance(flag, Mapping):
        keys = [key for key in _FLAG_KEYS if key in flag]
        if not keys:
            raise UnclearMilestonesError(f"{_shown(dict(flag))} for {name}, without a flag such as completed")
        return _is_reached(flag[keys[0]], name)
    if isinstance(flag, np.ndarray) and flag.size == 1:
        flag = flag.item()
    if isinstance(flag, bool | np.bool_ | int | float | np.integer | np.floating) and flag in (0, 1):
        return bool(flag)
    raise UnclearMilestonesError(f"{_shown(flag)} for {name}, which is neither true nor false")


def _text(value: Any) -> str:
    """Return a name as plain text. The name of an enum's member is its value if that is a text."""
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return str(value)
    raise UnclearMilestonesError(f"a dict with the key {_shown(value)}, which is not the id of a milestone")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
