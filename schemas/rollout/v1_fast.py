"""A fast reader of rollout version 1 with the same results as v1.py: it decodes typed records, then columns.

It reads only complete, finite, well-formed UTF-8 documents in which every experience has all fields. For all others
`read_v1_fast` returns None; then v1.py reads the file, or reports the error.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, PolicyContract
from schemas.rollout.agents import agents_from_numbers
from schemas.rollout.duplicate_keys import first_experience, has_unique_keys
from schemas.rollout.large.joining import joined
from schemas.rollout.large.parts import BETWEEN_OBJECTS, MAX_PART_BYTES, PART_BYTES, WHOLE_BYTES
from schemas.rollout.rollout import Rollout, misnamed_field, narrowed

_START = re.compile(rb'\s*\{\s*"experiences"\s*:')
_LIST_BEGINS = re.compile(rb'\s*\{\s*"experiences"\s*:\s*\[')
_TYPES: dict[str, Any] = {
    "state": list[float],
    "action": None,
    "reward": float,
    "done": bool,
    "log_prob": float,
    "value": float,
    "agent_index": int,
}
_SCALARS = ("reward", "done", "log_prob", "value")
_MAX_NAMES = 256
_PLAIN_NAME = re.compile(r"[\w .:-]{1,64}")


def read_v1_fast(data: bytes) -> Rollout | None:
    """Return the rollout of a version 1 document; None if it is not regular and complete."""
    first = first_experience(data) if _START.match(data) else None
    if first is None:
        return None
    experience, colons = first
    names, keys = _names_of(experience.get("action")), _names_of(experience)
    if names is None or keys is None or misnamed_field(keys) is not None:
        return None
    others = tuple((key, type(experience[key]) in {int, float}) for key in keys if key not in _TYPES)
    decoder = _decoder(names, others, has_agents="agent_index" in keys)
    parts: list[Rollout] = []
    agents: list[npt.NDArray[np.int64]] = []
    try:
        for experiences in _in_parts(data, decoder):
            size = parts[0].contract.observation_size if parts else len(experiences[0].state)
            parts.append(_columns(experiences, names, size))
            agents.append(_agents(experiences, has_agents="agent_index" in keys))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, struct.error, _IrregularError):
        return None
    if not parts or not has_unique_keys(data, sum(part.size for part in parts), colons):
        return None
    return joined(parts, agents_from_numbers(np.concatenate(agents)).ids)


class _IrregularError(Exception):
    """The file is for v1.py."""


def _in_parts(data: bytes, decoder: msgspec.json.Decoder[Any]) -> Iterator[list[Any]]:
    """Yield the file's experiences: all at once, or in parts if the file is large. Raises _IrregularError.

    A part that ends inside an experience is not JSON, so v1.py reads such a file.
    """
    if len(data) <= WHOLE_BYTES:
        document = decoder.decode(data)
        if document.schema is not None or not document.experiences:
            raise _IrregularError
        yield document.experiences
        return
    end = data.rfind(b"}", 0, data.rfind(b"]")) + 1
    rest = decoder.decode(b'{"experiences":[%b' % data[end:])  # has_unique_keys refuses a long rest
    begin = data.find(b"[") + 1
    if (
        rest.schema is not None
        or not _LIST_BEGINS.fullmatch(data, 0, begin)
        or begin > end
        or len(data) - end > WHOLE_BYTES
    ):
        raise _IrregularError
    while begin < end:
        found = BETWEEN_OBJECTS.search(data, begin + PART_BYTES, end) if begin + PART_BYTES < end else None
        stop, following = found.span(1) if found else (end, end)
        if stop - begin > MAX_PART_BYTES:
            raise _IrregularError
        yield decoder.decode(b'{"experiences":[%b]}' % data[begin:stop]).experiences
        begin = following


def _names_of(value: Any) -> tuple[str, ...] | None:
    names = tuple(value) if isinstance(value, dict) else ()
    plain = all(_PLAIN_NAME.fullmatch(name) for name in names)
    return names if plain and 0 < len(names) <= _MAX_NAMES else None


@lru_cache(maxsize=8)
def _decoder(
    names: tuple[str, ...], others: tuple[tuple[str, bool], ...], *, has_agents: bool
) -> msgspec.json.Decoder[Any]:
    """Return a decoder of experiences with these action names and with the `others`.

    `others` has the keys that are not used, each with whether its value is a number.
    """
    fields = [f"a{i}" for i in range(len(names))]
    action = msgspec.defstruct(
        "Action",
        [(field, float) for field in fields],
        rename=dict(zip(fields, names, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    needed = {name: kind for name, kind in _TYPES.items() if name != "agent_index" or has_agents}
    experience = msgspec.defstruct(
        "Experience",
        [
            *(needed | {"action": action}).items(),
            *((f"x{i}", float if is_number else msgspec.Raw) for i, (_, is_number) in enumerate(others)),
        ],
        rename={f"x{i}": key for i, (key, _) in enumerate(others)},
        gc=False,
    )
    document = msgspec.defstruct(
        "Document",
        [("experiences", list[experience]), ("schema", msgspec.Raw | None, None)],  # type: ignore[valid-type]
        gc=False,
    )
    return msgspec.json.Decoder(document)


def _agents(experiences: list[Any], *, has_agents: bool) -> npt.NDArray[np.int64]:
    n = len(experiences)
    return _whole(map(attrgetter("agent_index"), experiences), n) if has_agents else np.zeros(n, dtype=np.int64)


def _columns(experiences: list[Any], names: tuple[str, ...], size: int) -> Rollout:
    """Return the rollout of these experiences, of which each observes `size` values, without the agents' numbers.

    Raises _IrregularError, OverflowError or struct.error.
    """
    n = len(experiences)
    states = list(map(attrgetter("state"), experiences))
    if size == 0 or list(map(len, states)).count(size) != n:
        raise _IrregularError
    actions = list(map(attrgetter("action"), experiences))
    observations = _flat(chain.from_iterable(states), n * size).reshape(n, size)
    reward, done, log_prob, value = (_flat(map(attrgetter(name), experiences), n) for name in _SCALARS)
    columns = [_flat(map(attrgetter(f"a{i}"), actions), n) for i in range(len(names))]
    with np.errstate(over="ignore"):
        return Rollout(
            contract=PolicyContract(observation_size=size, action_space=ContinuousActions.named(names)),
            observations=narrowed(observations),
            actions=np.stack(columns, axis=1).astype(np.float32),
            rewards=reward.astype(np.float32),
            terminated=done.astype(bool),
            truncated=np.zeros(n, dtype=bool),
            log_probs=log_prob.astype(np.float32),
            values=value.astype(np.float32),
            agents=np.zeros(n, dtype=np.int32),
            after_gap=np.zeros(n, dtype=bool),
            final_observations=np.zeros((0, size), dtype=np.float32),
            final_agents=np.zeros(0, dtype=np.int32),
            reward_parts={},
            policy_version=None,
            noise_std=None,
            left_out=0,
            states_bounds=False,
        )


def _flat(numbers: Iterable[float], count: int) -> npt.NDArray[np.float64]:
    """Return numbers as an array; `struct` converts them faster than numpy."""
    return np.frombuffer(struct.pack(f"{count}d", *numbers), dtype=np.float64)


def _whole(numbers: Iterable[int], count: int) -> npt.NDArray[np.int64]:
    """Return whole numbers as an array; a double would round those above 2**53."""
    return np.frombuffer(struct.pack(f"{count}q", *numbers), dtype=np.int64)
