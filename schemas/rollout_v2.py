"""Rollout version 2: columns, as nested lists or as base64 of little-endian arrays; reading and writing."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.rollout import MAX_ROLLOUT_BYTES, Bools, Float32, Int32, Rollout

SCHEMA_NAME = "hotlap.rollout/2"
_DTYPES = frozenset({"<f4", "<f8", "<i4", "<i8", "|b1", "|u1", "|i1", "<i2"})
_ACTION_SPACE: TypeAdapter[ActionSpace] = TypeAdapter(ActionSpace)


def rollout_from_v2(document: dict[str, Any]) -> Rollout:
    """Make columns of a parsed version 2 document. Raises RolloutError (E_SCHEMA) naming the column."""
    space = _action_space(document)
    observations = _column(document, "observations", ndim=2)
    n, size = observations.shape
    if n == 0 or size == 0:
        raise RolloutError("`observations` is empty", hint="export at least one step", code="E_EMPTY")
    actions = _column(document, "actions", length=n)
    actions = actions.reshape(n, -1)
    if actions.shape[1] != space.width:
        raise RolloutError(
            f"`actions` has {actions.shape[1]} columns, `action_space` {space.width}", hint="make them agree"
        )
    if not isinstance(space, ContinuousActions):
        _require_indices(actions, space.n)
    final_observations, final_agents = _finals(document, size)
    return Rollout(
        contract=PolicyContract(observation_size=size, action_space=space),
        observations=observations,
        actions=actions,
        rewards=_column(document, "rewards", ndim=1, length=n),
        terminated=_flags(document, "terminated", n),
        truncated=_flags(document, "truncated", n),
        log_probs=_column(document, "log_probs", ndim=1, length=n),
        values=_column(document, "values", ndim=1, length=n),
        agents=_agents(document, n),
        after_gap=np.zeros(n, dtype=bool),
        final_observations=final_observations,
        final_agents=final_agents,
        reward_parts=_reward_parts(document, n),
        policy_version=_whole_number(document, "policy_version"),
        noise_std=_positive(document, "noise_std"),
        left_out=0,
    )


def rollout_to_v2(rollout: Rollout, *, rollout_id: str, base64_columns: bool) -> bytes:
    """Write a rollout as version 2 bytes (tests, tools and engines in Python)."""
    columns: dict[str, npt.NDArray[Any]] = {
        "observations": rollout.observations,
        "actions": rollout.actions,
        "rewards": rollout.rewards,
        "terminated": rollout.terminated,
        "truncated": rollout.truncated,
        "log_probs": rollout.log_probs,
        "values": rollout.values,
        "agents": rollout.agents,
    }
    if not isinstance(rollout.contract.action_space, ContinuousActions):
        columns["actions"] = rollout.actions.astype(np.int32).reshape(-1)
    encode = _encoded if base64_columns else _listed
    document: dict[str, Any] = {"schema": SCHEMA_NAME, "rollout_id": rollout_id}
    document["policy_version"] = rollout.policy_version
    document["noise_std"] = rollout.noise_std
    document["action_space"] = rollout.contract.action_space.model_dump(mode="json")
    document |= {name: encode(column) for name, column in columns.items()}
    if len(rollout.final_agents):
        finals = zip(rollout.final_agents, rollout.final_observations, strict=True)
        document["final_observations"] = {str(int(agent)): observation.tolist() for agent, observation in finals}
    if rollout.reward_parts:
        document["reward_parts"] = {name: encode(part) for name, part in rollout.reward_parts.items()}
    return orjson.dumps(document)


def _listed(column: npt.NDArray[Any]) -> list[Any]:
    return list(column.tolist())


def _encoded(column: npt.NDArray[Any]) -> dict[str, Any]:
    dtype = column.dtype.newbyteorder("<").str
    data = base64.b64encode(np.ascontiguousarray(column, dtype=dtype).tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": list(column.shape), "data": data}


def _action_space(document: dict[str, Any]) -> ActionSpace:
    value = document.get("action_space")
    if isinstance(value, dict) and "type" not in value:
        value = {"type": "discrete" if "n" in value else "continuous", **value}
    try:
        space = _ACTION_SPACE.validate_json(orjson.dumps(value))
    except (ValidationError, orjson.JSONEncodeError):
        raise RolloutError("`action_space` is not {names, low, high} or {n}", hint="see docs/formats.md") from None
    if isinstance(space, ContinuousActions):
        sizes = {len(space.names), len(space.low), len(space.high)}
        if len(sizes) != 1 or any(low >= high for low, high in zip(space.low, space.high, strict=False)):
            raise RolloutError("`action_space` needs one low and one higher high a name", hint="see docs/formats.md")
    return space


def _column(document: dict[str, Any], name: str, *, ndim: int | None = None, length: int | None = None) -> Float32:
    if name not in document:
        raise RolloutError(f"it has no column `{name}`", hint="see docs/formats.md")
    return _as_float32(document[name], name, ndim=ndim, length=length)


def _as_float32(value: Any, name: str, *, ndim: int | None = None, length: int | None = None) -> Float32:
    column = _decoded(value, name) if isinstance(value, dict) else _from_lists(value, name)
    if (ndim is not None and column.ndim != ndim) or column.ndim not in {1, 2}:
        raise RolloutError(f"`{name}` has {column.ndim} dimensions", hint="see docs/formats.md")
    if length is not None and len(column) != length:
        raise RolloutError(f"`{name}` has {len(column)} rows, `observations` {length}", hint="one row a step")
    with np.errstate(over="ignore"):
        return column.astype(np.float32, copy=False)


def _from_lists(value: Any, name: str) -> npt.NDArray[Any]:
    if not isinstance(value, list):
        raise RolloutError(f"`{name}` is neither a list nor a base64 column", hint="see docs/formats.md")
    try:
        column = np.array(value)
        if column.dtype == object:
            column = column.astype(np.float64)
    except (ValueError, TypeError):
        raise RolloutError(
            f"`{name}` is ragged or holds something that is no number", hint="see docs/formats.md"
        ) from None
    if column.dtype.kind not in "iufb":
        raise RolloutError(f"`{name}` holds something that is no number", hint="see docs/formats.md")
    return column


def _decoded(value: dict[str, Any], name: str) -> npt.NDArray[Any]:
    dtype, shape, data = value.get("dtype"), value.get("shape"), value.get("data")
    if dtype not in _DTYPES:
        raise RolloutError(f"`{name}` has dtype {dtype!r}", hint=f"use one of {', '.join(sorted(_DTYPES))}")
    good_shape = isinstance(shape, list) and all(type(s) is int and 0 <= s <= MAX_ROLLOUT_BYTES for s in shape)
    if not good_shape or not isinstance(shape, list) or not isinstance(data, str):
        raise RolloutError(f"`{name}` has no valid `shape` and `data`", hint="see docs/formats.md")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RolloutError(f"`{name}` is not base64", hint="standard alphabet, with padding") from None
    kind = np.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(raw):
        raise RolloutError(
            f"`{name}` has {len(raw)} bytes, its shape asks for {math.prod(shape) * kind.itemsize}", hint=""
        )
    return np.frombuffer(raw, dtype=kind).reshape(shape)


def _require_indices(actions: Float32, n: int) -> None:
    finite = actions[np.isfinite(actions)]
    if (finite != np.floor(finite)).any() or (finite < 0).any() or (finite >= n).any():
        raise RolloutError(f"`actions` are not whole numbers from 0 to {n - 1}", hint="see docs/formats.md")


def _flags(document: dict[str, Any], name: str, n: int) -> Bools:
    column = _column(document, name, ndim=1, length=n)
    if not np.isin(column, (0.0, 1.0)).all():
        raise RolloutError(f"`{name}` is not always true or false", hint="see docs/formats.md")
    return column.astype(bool)


def _agents(document: dict[str, Any], n: int) -> Int32:
    column = _column(document, "agents", ndim=1, length=n)
    if not (np.isfinite(column) & (np.abs(column) < 2**24) & (column == np.floor(column))).all():
        raise RolloutError("`agents` are not always whole numbers", hint="number the agents from 0")
    return column.astype(np.int32)


def _finals(document: dict[str, Any], size: int) -> tuple[Float32, Int32]:
    value = document.get("final_observations")
    if value is None:
        return np.zeros((0, size), dtype=np.float32), np.zeros(0, dtype=np.int32)
    if isinstance(value, dict) and "dtype" not in value:
        try:
            agents = np.array([int(agent) for agent in value], dtype=np.int32)
        except ValueError:
            raise RolloutError(
                "`final_observations` is not keyed by agent number", hint="see docs/formats.md"
            ) from None
        rows = list(value.values())
    else:
        rows, agents = value, None
    observations = _as_float32(rows, "final_observations", ndim=2) if len(rows) else np.zeros((0, size), np.float32)
    if agents is None:
        agents = np.arange(len(observations), dtype=np.int32)
    if observations.shape[1] != size:
        raise RolloutError(f"`final_observations` are {observations.shape[1]} wide, `observations` {size}", hint="")
    return observations, agents


def _reward_parts(document: dict[str, Any], n: int) -> dict[str, Float32]:
    parts = document.get("reward_parts") or {}
    if not isinstance(parts, dict):
        raise RolloutError("`reward_parts` is no object of columns", hint="see docs/formats.md")
    return {name: _as_float32(part, f"reward_parts.{name}", ndim=1, length=n) for name, part in parts.items()}


def _whole_number(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**53:
        raise RolloutError(f"`{name}` is no whole number", hint="0 is the initial model")
    return value


def _positive(document: dict[str, Any], name: str) -> float | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) not in {int, float} or not 0 <= value <= 100:
        raise RolloutError(f"`{name}` is no number from 0 to 100", hint="1 is the policy's own noise")
    return float(value)
