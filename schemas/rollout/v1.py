"""Rollout version 1: a list of experience objects, as the Unreal exporter writes it."""

from __future__ import annotations

import math
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.rollout.agents import agents_from_values
from schemas.rollout.encoding import meaning_of_text
from schemas.rollout.meaning.fit import choices_error
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.rollout import SEE_FORMATS, Bools, Float32, Numbers, Rollout, misnamed_field, narrowed
from schemas.text import printable

_NUMBERS: frozenset[type] = frozenset({int, float})
_FLAGS: frozenset[type] = frozenset({bool, int, float})
_SHOWN = 40


def rollout_from_v1(document: dict[str, Any], rules: ReadingRules, contract: PolicyContract | None = None) -> Rollout:
    """Return the rollout of a parsed version 1 document, as it is written. `fit` applies the rules to it.

    Only the names of choices are replaced by their numbers here. `contract` is that of the first experience of the
    file, if the document is another part of it. Raises RolloutError, which names the field.
    """
    experiences = document["experiences"]
    if not isinstance(experiences, list) or not experiences:
        raise no_experiences()
    if set(map(type, experiences)) != {dict}:
        raise RolloutError("an entry of `experiences` is not an object", hint=SEE_FORMATS)
    if contract is None and (found := misnamed_field(experiences[0])):
        raise RolloutError(f"the experiences have `{found[0]}` instead of `{found[1]}`", hint=f"name it `{found[1]}`")
    contract = contract or _contract_of(experiences[0])
    n = len(experiences)
    return Rollout(
        contract=contract,
        observations=_observations(experiences, contract.observation_size),
        actions=_actions(experiences, contract.action_space, rules),
        rewards=_to_float32(_column(experiences, "reward"), "reward"),
        terminated=_flags(experiences, "done"),
        truncated=np.zeros(n, dtype=bool),
        log_probs=_optional(experiences, "log_prob", missing=math.nan),
        values=_optional(experiences, "value", missing=0.0),
        agents=agents_from_values([e.get("agent_index") for e in experiences], "agent_index").ids,
        after_gap=np.zeros(n, dtype=bool),
        final_observations=np.zeros((0, contract.observation_size), dtype=np.float32),
        final_agents=np.zeros(0, dtype=np.int32),
        reward_parts={},
        policy_version=None,
        noise_std=None,
        left_out=0,
        states_bounds=False,
    )


def no_experiences() -> RolloutError:
    """Return the error for a version 1 file without experiences."""
    return RolloutError("`experiences` is empty or not a list", hint="export at least one step", code="E_EMPTY")


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


def _to_float32(values: list[Any], name: str, *, per_row: int = 1) -> Float32:
    """Return an array in which null is NaN and numbers too large for float32 are infinite; both are handled later.

    `values` has `per_row` values for each experience. Raises RolloutError for a value that is not a number.
    """
    with np.errstate(over="ignore"):
        return _to_float64(values, name, per_row).astype(np.float32)


def _to_float64(values: list[Any], name: str, per_row: int) -> npt.NDArray[np.float64]:
    if not set(map(type, values)) <= _NUMBERS:
        values = [number_of(value, name, index // per_row) for index, value in enumerate(values)]
    return np.array(values, dtype=np.float64)


def number_of(value: Any, name: str, row: int) -> float:
    """Return a JSON value as a number; null is NaN, as is the text "NaN". Raises RolloutError for all others."""
    if value is None:
        return math.nan
    if type(value) in _NUMBERS:
        return float(value)
    meaning = meaning_of_text(value) if isinstance(value, str) else None
    if meaning is not None:
        return meaning
    if isinstance(value, str):
        shown = printable(value, limit=_SHOWN)
        raise RolloutError(f'`{name}` is the text "{shown}" in experience {row}', hint="write numbers without quotes")
    raise RolloutError(
        f"`{name}` contains {type(value).__name__} instead of a number in experience {row}", hint=SEE_FORMATS
    )


def _optional(experiences: list[dict[str, Any]], name: str, *, missing: float) -> Float32:
    """Return a column that no experience needs; `missing` stands for whatever is not a number."""
    values = [e.get(name) for e in experiences]
    if not set(map(type, values)) <= _NUMBERS:
        values = [value if type(value) in _NUMBERS else missing for value in values]
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float64).astype(np.float32)


def _observations(experiences: list[dict[str, Any]], size: int) -> Numbers:
    states = _column(experiences, "state")
    _require_lists(states, "state")
    lengths = list(map(len, states))
    if lengths.count(size) != len(lengths):
        index = next(i for i, length in enumerate(lengths) if length != size)
        raise RolloutError(
            f"`state` has {lengths[index]} numbers in experience {index} and {size} in the first",
            hint="every agent must observe the same number of values",
        )
    return narrowed(_to_float64(list(chain.from_iterable(states)), "state", size).reshape(len(states), size))


def _require_lists(values: list[Any], name: str) -> None:
    if set(map(type, values)) != {list}:
        raise RolloutError(f"`{name}` is not always a list", hint=SEE_FORMATS)


def _actions(experiences: list[dict[str, Any]], space: object, rules: ReadingRules) -> Float32:
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
    if not set(map(type, flat)) <= _NUMBERS:
        flat = [_action_number(value, index, space.names, rules) for index, value in enumerate(flat)]
    return _to_float32(flat, "action", per_row=width).reshape(len(actions), width)


def _action_number(value: Any, index: int, names: tuple[str, ...], rules: ReadingRules) -> Any:
    """Return the number of a choice that is written as its name or as a flag, and numbers unchanged."""
    row, name = index // len(names), names[index % len(names)]
    if isinstance(value, str) and value in rules.choice_names:
        return rules.choice_names.index(value)
    if isinstance(value, bool):
        if rules.choices is not None:
            return int(value)
        raise choices_error(f"the `action` '{name}' is true or false in experience {row}", len(names))
    if not isinstance(value, str) or meaning_of_text(value) is not None or _is_number(value):
        return number_of(value, "action", row)
    problem = f"the `action` '{name}' is the text \"{printable(value, limit=_SHOWN)}\" in experience {row}"
    if rules.choices is not None:
        raise RolloutError(f"{problem}, which is not in agent.choices", hint="correct daemon.toml", code="E_CHOICES")
    raise choices_error(problem, len(names))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _flags(experiences: list[dict[str, Any]], name: str) -> Bools:
    column = _column(experiences, name)
    for row, value in enumerate(column):
        if type(value) not in _FLAGS or value not in {0, 1}:
            shown = printable(str(value).lower() if isinstance(value, bool) else repr(value), limit=_SHOWN)
            raise RolloutError(f"`{name}` is {shown} in experience {row}", hint="write true or false, without quotes")
    return np.array(column, dtype=bool)
