"""The quick way through version 1: decoded straight into typed records, then into columns.

Only whole, finite, well-formed UTF-8 documents pass; for all others `read_typed_v1` gives None, and the plain reader
says what is wrong or leaves out what is not finite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import orjson

from schemas.contract import ContinuousActions, PolicyContract
from schemas.rollout import Rollout

_FIRST_ACTION = re.compile(rb'"action"\s*:\s*(\{[^{}]*\})')
_START = re.compile(rb'\s*\{\s*"experiences"\s*:')
_SCALARS = ("reward", "done", "log_prob", "value", "agent_index")
_MAX_NAMES = 256
_PLAIN_NAME = re.compile(r"[\w .:-]{1,64}")


def read_typed_v1(data: bytes) -> Rollout | None:
    """Make a rollout of a version 1 document; None where it is anything but plain and whole."""
    if not _START.match(data):
        return None
    names = _action_names(data)
    if names is None:
        return None
    decoder, rows_of = _decoder(names)
    try:
        document = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    experiences = document.experiences
    if document.schema is not None or not experiences:
        return None
    return _columns(experiences, names, rows_of)


def _action_names(data: bytes) -> tuple[str, ...] | None:
    match = _FIRST_ACTION.search(data, 0, 1 << 16)
    if match is None:
        return None
    try:
        names = tuple(orjson.loads(match.group(1)))
    except orjson.JSONDecodeError:
        return None
    plain = all(_PLAIN_NAME.fullmatch(name) for name in names)
    return names if plain and 0 < len(names) <= _MAX_NAMES else None


@lru_cache(maxsize=8)
def _decoder(names: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], Callable[[Any], tuple[Any, ...]]]:
    """Give a decoder for these action names, and what takes an experience's scalars out of it."""
    fields = [f"a{i}" for i in range(len(names))]
    action = msgspec.defstruct(
        "Action",
        [(field, float) for field in fields],
        rename=dict(zip(fields, names, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    experience = msgspec.defstruct(
        "Experience",
        [
            ("state", list[float]),
            ("action", action),
            ("reward", float),
            ("done", bool),
            ("log_prob", float),
            ("value", float),
            ("agent_index", int, 0),
        ],
        gc=False,
    )
    document = msgspec.defstruct(
        "Document",
        [("experiences", list[experience]), ("schema", msgspec.Raw | None, None)],  # type: ignore[valid-type]
        gc=False,
    )
    rows_of = attrgetter(*_SCALARS, *(f"action.{field}" for field in fields))
    return msgspec.json.Decoder(document), rows_of


def _columns(
    experiences: list[Any], names: tuple[str, ...], rows_of: Callable[[Any], tuple[Any, ...]]
) -> Rollout | None:
    n, size = len(experiences), len(experiences[0].state)
    states = list(map(attrgetter("state"), experiences))
    if size == 0 or list(map(len, states)).count(size) != n:
        return None
    width = len(_SCALARS) + len(names)
    try:
        observations = _flat(states, n * size).reshape(n, size)
        rows = _flat(map(rows_of, experiences), n * width).reshape(n, width)
    except OverflowError:
        return None
    reward, done, log_prob, value, agent = rows.T[: len(_SCALARS)]
    if not (np.abs(agent) < 2**31).all():
        return None
    with np.errstate(over="ignore"):
        return Rollout(
            contract=PolicyContract(observation_size=size, action_space=ContinuousActions.named(names)),
            observations=observations.astype(np.float32),
            actions=np.ascontiguousarray(rows[:, len(_SCALARS) :], dtype=np.float32),
            rewards=reward.astype(np.float32),
            terminated=done.astype(bool),
            truncated=np.zeros(n, dtype=bool),
            log_probs=log_prob.astype(np.float32),
            values=value.astype(np.float32),
            agents=agent.astype(np.int32),
            after_gap=np.zeros(n, dtype=bool),
            final_observations=np.zeros((0, size), dtype=np.float32),
            final_agents=np.zeros(0, dtype=np.int32),
            reward_parts={},
            policy_version=None,
            noise_std=None,
            left_out=0,
        )


def _flat(rows: Iterable[Iterable[float]], count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.fromiter(chain.from_iterable(rows), np.float64, count)
