"""Rollout version 1: a list of experience objects, as the Unreal exporter writes it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.rollout.rollout import SEE_FORMATS, Bools, Float32, Int32, Rollout

_NUMBERS: frozenset[type] = frozenset({int, float})
_NUMBERS_OR_NULL: frozenset[type] = frozenset({int, float, type(None)})


def rollout_from_v1(document: dict[str, Any]) -> Rollout:
    """Return the rollout of a parsed version 1 document. Raises RolloutError, which names the field."""
    experiences = document["experiences"]
    if not isinstance(experiences, list) or not experiences:
        raise RolloutError("`experiences` is empty or not a list", hint="export at least one step", code="E_EMPTY")
    if set(map(type, experiences)) != {dict}:
        raise RolloutError("an entry of `experiences` is not an object", hint=SEE_FORMATS)
    contract = _contract_of(experiences[0])
    n = len(experiences)
    return Rollout(
        contract=contract,
        observations=_observations(experiences, contract.observation_size),
        actions=_actions(experiences, contract.action_space),
        rewards=_numbers(experiences, "reward"),
        terminated=_flags(experiences, "done"),
        truncated=np.zeros(n, dtype=bool),
        log_probs=_numbers(experiences, "log_prob"),
        values=_numbers(experiences, "value"),
        agents=_agents(experiences),
        after_gap=np.zeros(n, dtype=bool),
        final_observations=np.zeros((0, contract.observation_size), dtype=np.float32),
        final_agents=np.zeros(0, dtype=np.int32),
        reward_parts={},
        policy_version=None,
        noise_std=None,
        left_out=0,
    )


def _contract_of(first: dict[str, Any]) -> PolicyContract:
    state, action = first.get("state"), first.get("action")
    if not isinstance(state, list) or not state:
        raise RolloutError("`state` of the first experience is not a list of numbers", hint=SEE_FORMATS)
    if not isinstance(action, dict) or not action:
        raise RolloutError("`action` of the first experience is not an object of numbers", hint=SEE_FORMATS)
    return PolicyContract(observation_size=len(state), action_space=ContinuousActions.named(tuple(action)))


def _column(experiences: list[dict[str, Any]], name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), experiences))
    except KeyError:
        index = next(i for i, e in enumerate(experiences) if name not in e)
        raise RolloutError(f"experience {index} has no `{name}`", hint=SEE_FORMATS) from None


def _numbers(experiences: list[dict[str, Any]], name: str) -> Float32:
    column = _column(experiences, name)
    _require_types(column, _NUMBERS_OR_NULL, name)
    return _to_float32(column)


def _to_float32(numbers: list[Any]) -> Float32:
    """Return an array in which null is NaN and numbers too large for float32 are infinite; both are removed later."""
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float64).astype(np.float32)


def _require_types(values: Iterable[Any], allowed: frozenset[type], name: str) -> None:
    found = set(map(type, values)) - allowed
    if found:
        wrong = ", ".join(sorted(kind.__name__ for kind in found))
        raise RolloutError(f"`{name}` contains {wrong} instead of a number", hint=SEE_FORMATS)


def _observations(experiences: list[dict[str, Any]], size: int) -> Float32:
    states = _column(experiences, "state")
    _require_lists(states, "state")
    lengths = list(map(len, states))
    if lengths.count(size) != len(lengths):
        index = next(i for i, length in enumerate(lengths) if length != size)
        raise RolloutError(
            f"`state` has {lengths[index]} numbers in experience {index} and {size} in the first",
            hint="every agent must observe the same number of values",
        )
    flat = list(chain.from_iterable(states))
    _require_types(flat, _NUMBERS_OR_NULL, "state")
    return _to_float32(flat).reshape(len(states), size)


def _require_lists(values: list[Any], name: str) -> None:
    if set(map(type, values)) != {list}:
        raise RolloutError(f"`{name}` is not always a list", hint=SEE_FORMATS)


def _actions(experiences: list[dict[str, Any]], space: object) -> Float32:
    assert isinstance(space, ContinuousActions)
    actions = _column(experiences, "action")
    if set(map(type, actions)) != {dict}:
        raise RolloutError("`action` is not always an object", hint=SEE_FORMATS)
    width = len(space.names)
    if set(map(len, actions)) != {width}:
        raise RolloutError(
            "`action` does not have the same names throughout", hint="write every action in every experience"
        )
    try:
        rows = list(map(itemgetter(*space.names), actions))
    except KeyError as error:
        raise RolloutError(
            f"an `action` has no '{error.args[0][:60]}'", hint="write every action in every experience"
        ) from None
    flat = rows if width == 1 else list(chain.from_iterable(rows))
    _require_types(flat, _NUMBERS_OR_NULL, "action")
    return _to_float32(flat).reshape(len(actions), width)


def _flags(experiences: list[dict[str, Any]], name: str) -> Bools:
    column = _column(experiences, name)
    if not set(map(type, column)) <= {bool, int} or not set(column) <= {0, 1}:
        raise RolloutError(f"`{name}` is not always true or false", hint=SEE_FORMATS)
    return np.array(column, dtype=bool)


def _agents(experiences: list[dict[str, Any]]) -> Int32:
    if "agent_index" not in experiences[0]:
        return np.zeros(len(experiences), dtype=np.int32)
    column = _column(experiences, "agent_index")
    _require_types(column, _NUMBERS, "agent_index")
    numbers = np.array(column, dtype=np.float64)
    if not (np.abs(numbers) < 2**31).all() or (numbers != np.floor(numbers)).any():
        raise RolloutError("`agent_index` is not always a whole number", hint="number the agents from 0")
    return numbers.astype(np.int32)
