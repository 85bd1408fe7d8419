"""`[agent.mirror]`: which observations and actions change if the game is mirrored, and how."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import ValidationInfo, field_validator

from schemas.settings.fields import SettingsGroup


class MirrorSettings(SettingsGroup):
    """`[agent.mirror]`: how the game looks in a mirror. Each experience is then learned from twice."""

    observation_pairs: tuple[tuple[int, int], ...] = ()
    """Observations that swap, such as the rays to the left and to the right: pairs of indices, counted from 0. As a
    variable: 5:6,7:8."""
    observation_signs: tuple[int, ...] = ()
    """Observations whose sign changes, such as a yaw rate: indices, counted from 0."""
    action_pairs: tuple[tuple[str, str], ...] = ()
    """Actions that swap: pairs of names."""
    action_signs: tuple[str, ...] = ()
    """Actions whose sign changes, such as steer: names."""
    choice_pairs: tuple[tuple[int | str, int | str], ...] = ()
    """With agent.choices: choices that swap, such as left and right: pairs of names, or of indices from 0."""

    @property
    def is_set(self) -> bool:
        """Return whether a mirror is declared."""
        return any(getattr(self, name) for name in type(self).model_fields)

    @field_validator("observation_pairs", "action_pairs", "choice_pairs", mode="before")
    @classmethod
    def _is_a_list_of_pairs(cls, pairs: object, info: ValidationInfo) -> object:
        kind = _kind(info)
        example = 'such as [["left", "right"]]' if kind == "action" else "such as [[5, 6], [7, 8]]"
        if not isinstance(pairs, list | tuple):
            raise ValueError(f"must be a list of pairs, {example}")
        split = [tuple(part.strip() for part in p.split(":")) if isinstance(p, str) else p for p in pairs]
        for pair, written in zip(split, pairs, strict=True):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ValueError(f"must be a list of pairs, {example}; {_shown(written)} is not a pair")
        found = [tuple(_member(member, kind) for member in pair) for pair in split]
        members = Counter(member for pair in found for member in pair)
        for pair in found:
            if pair[0] == pair[1]:
                raise ValueError(f"pairs {kind} {_shown(pair[0])} with itself: leave it out")
        if twice := [member for member, count in members.items() if count > 1]:
            raise ValueError(f"names {kind} {_shown(twice[0])} twice: it can swap with one other only")
        return tuple(found)

    @field_validator("observation_signs", "action_signs", mode="before")
    @classmethod
    def _names_each_once(cls, names: object, info: ValidationInfo) -> object:
        kind = _kind(info)
        if not isinstance(names, list | tuple):
            example = '["steer"]' if kind == "action" else "[1, 3]"
            raise ValueError(f"must be a list, such as {example}")
        found = tuple(_member(name, kind) for name in names)
        if twice := [name for name, count in Counter(found).items() if count > 1]:
            raise ValueError(f"names {kind} {_shown(twice[0])} twice")
        return found


def _kind(info: ValidationInfo) -> str:
    return str(info.field_name).partition("_")[0]


def _member(value: Any, kind: str) -> int | str:
    """Return an index or a name. Raises ValueError."""
    if kind != "action" and isinstance(value, str) and value.isdecimal():
        value = int(value)  # a variable's text
    if kind != "action" and type(value) is int:
        if value < 0:
            raise ValueError(f"names {kind} {value}, but indices are counted from 0")
        return value
    if kind != "observation" and isinstance(value, str) and value:
        return value
    wanted = {"observation": "indices", "action": "names of actions", "choice": "indices or names of choices"}[kind]
    raise ValueError(f"must contain {wanted}: {_shown(value)} is not one")


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
