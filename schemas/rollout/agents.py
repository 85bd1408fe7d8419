"""The numbers of agents: any whole number of 64 bits and any text identifies an agent in its file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import RolloutError
from schemas.rollout.rollout import Int32
from schemas.text import printable

_INT32, _INT64, _UINT64_END = np.iinfo(np.int32), np.iinfo(np.int64), 2**64
_EXACT = 2**53
"""Whole numbers are exact in a double up to here."""
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}")
MAX_AGENT_NAME = 200

AgentName = int | str


@dataclass(frozen=True, slots=True)
class AgentColumn:
    """Which agent each row belongs to."""

    ids: Int32  #: [n]; the engine's own numbers if they fit, otherwise 0, 1, 2 ... in the order of appearance
    names: Mapping[AgentName, int] | None = None  #: the engine's name -> id; None if each id is the engine's number

    def id_of(self, name: AgentName) -> int | None:
        """Return the id of an agent by the engine's name; None if it has no row."""
        if self.names is not None:
            return self.names.get(name)
        return name if isinstance(name, int) and name in self._known() else None

    def in_order(self) -> list[int]:
        """Return the ids in the order in which the agents appear first."""
        ids, first = np.unique(self.ids, return_index=True)
        return [int(i) for i in ids[np.argsort(first)]]

    def ordered_by_name(self) -> list[int]:
        """Return the ids in the order of the engine's numbers or texts."""
        if self.names is None:
            return sorted(self._known())
        return [self.names[name] for name in sorted(self.names, key=lambda name: (isinstance(name, str), name))]

    def _known(self) -> set[int]:
        return set(np.unique(self.ids).tolist())


def agents_from_numbers(numbers: npt.NDArray[np.integer[Any]]) -> AgentColumn:
    """Return the agents of a column of whole numbers."""
    if not len(numbers) or (numbers.min() >= _INT32.min and numbers.max() <= _INT32.max):
        return AgentColumn(numbers.astype(np.int32))
    found, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(found), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(found), dtype=np.int32)
    names: dict[AgentName, int] = {int(number): int(rank[i]) for i, number in enumerate(found)}
    return AgentColumn(rank[which].astype(np.int32), names)


def agents_from_values(values: Sequence[Any], field: str) -> AgentColumn:
    """Return the agents of a column of JSON values, in which null is the agent 0. Raises RolloutError."""
    if set(map(type, values)) == {int}:
        try:
            return agents_from_numbers(np.array(values, dtype=np.int64))
        except OverflowError:
            pass
    names = [agent_name(value, f"`{field}`", row) for row, value in enumerate(values)]
    if all(isinstance(name, int) and _INT32.min <= name <= _INT32.max for name in names):
        return AgentColumn(np.array(names, dtype=np.int32))
    ids: dict[AgentName, int] = {}
    column = [ids.setdefault(name, len(ids)) for name in names]
    return AgentColumn(np.array(column, dtype=np.int32), ids)


def agent_name(value: Any, place: str, row: int | None = None) -> AgentName:
    """Return a JSON value as an agent's name, which is the same for 7 and "7". Raises RolloutError."""
    if value is None:
        return 0
    if type(value) is int and _INT64.min <= value < _UINT64_END:
        return value
    if isinstance(value, float) and abs(value) <= _EXACT and value == int(value):
        return int(value)
    if isinstance(value, str) and len(value) <= MAX_AGENT_NAME:
        return int(value) if _WHOLE_NUMBER.fullmatch(value) else value
    where = "" if row is None else f" in experience {row}"
    shown = printable(f"'{value}'" if isinstance(value, str) else f"{value!r}", limit=40)
    raise RolloutError(
        f"{place} is {shown}{where}: it is not a whole number of 64 bits or a text of up to {MAX_AGENT_NAME}"
        " characters",
        hint="number the agents from 0",
    )
