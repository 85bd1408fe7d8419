"""Rollout version 2: columns as nested lists or as base64 of little-endian arrays; reading and writing."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.rollout.agents import AgentColumn, agent_name, agents_from_numbers, agents_from_values
from schemas.rollout.large.parts import ListText
from schemas.rollout.rollout import SEE_FORMATS, Float32, Int32, Numbers, Rollout, require_plain_names
from schemas.rollout.v2_columns import (
    as_float32,
    column_of,
    critic_observations_of,
    flags_of,
    from_base64,
    has_no_numbers,
    numbers_of,
    observations_of,
)
from schemas.text import printable

SCHEMA_NAME = "hotlap.rollout/2"
MEMBERS = frozenset({"schema", "policy_version", "noise_std", "action_space", "observations", "actions", "rewards"})
MEMBERS |= {"terminated", "truncated", "log_probs", "values", "agents", "final_observations", "reward_parts"}
MEMBERS |= {"critic_observations", "final_critic_observations"}
"""What is read of a file; the values of other members are ignored."""
_LARGEST = float(np.finfo(np.float32).max)
_ACTION_SPACE: TypeAdapter[ActionSpace] = TypeAdapter(ActionSpace)


def rollout_from_v2(document: dict[str, Any]) -> Rollout:
    """Return the rollout of a parsed version 2 document, as it is written. Raises RolloutError, which names the column.

    Only `observations`, `actions`, `rewards` and `terminated` are needed.
    """
    space = _action_space(document)
    if "observations" not in document:
        raise RolloutError("it has no column `observations`", hint=SEE_FORMATS)
    observations = observations_of(document["observations"], "observations", ndim=2)
    n, size = observations.shape
    actions = column_of(document, "actions", length=n)
    actions = actions.reshape(n, -1)
    if actions.shape[1] != space.width:
        raise RolloutError(
            f"`actions` has {actions.shape[1]} columns, but `action_space` has {space.width} actions", hint=SEE_FORMATS
        )
    if not isinstance(space, ContinuousActions):
        _require_indices(actions, space.n)
    agents = _agents(document, n)
    finals = _finals(document, "final_observations", observations, agents)
    final_observations, final_agents = finals or (observations[:0].copy(), np.zeros(0, dtype=np.int32))
    critic_observations = critic_observations_of(document, n)
    return Rollout(
        contract=PolicyContract(observation_size=size, action_space=space),
        observations=observations,
        actions=actions,
        rewards=column_of(document, "rewards", ndim=1, length=n),
        terminated=flags_of(document, "terminated", n),
        truncated=flags_of(document, "truncated", n) if "truncated" in document else np.zeros(n, dtype=bool),
        log_probs=_log_probs(document, n),
        values=_values(document, n),
        agents=agents.ids,
        after_gap=np.zeros(n, dtype=bool),
        final_observations=final_observations,
        final_agents=final_agents,
        reward_parts=_reward_parts(document, n),
        policy_version=_whole_number(document, "policy_version"),
        noise_std=_positive(document, "noise_std"),
        left_out=0,
        critic_observations=critic_observations,
        final_critic_observations=_final_critic_observations(document, critic_observations, final_agents, agents),
    )


def rollout_to_v2(rollout: Rollout, *, rollout_id: str, base64_columns: bool) -> bytes:
    """Return a rollout as the bytes of a version 2 file, for engines in Python, tools and tests."""
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
    encode = _to_base64 if base64_columns else _to_lists
    document: dict[str, Any] = {"schema": SCHEMA_NAME, "rollout_id": rollout_id}
    document["policy_version"] = rollout.policy_version
    document["noise_std"] = rollout.noise_std
    document["action_space"] = rollout.contract.action_space.model_dump(mode="json")
    document |= {name: encode(column) for name, column in columns.items()}
    if len(rollout.final_agents):
        finals = zip(rollout.final_agents, rollout.final_observations, strict=True)
        document["final_observations"] = {str(int(agent)): observation.tolist() for agent, observation in finals}
    if rollout.critic_observations is not None:
        document["critic_observations"] = encode(rollout.critic_observations)
    if rollout.final_critic_observations is not None:
        finals = zip(rollout.final_agents, rollout.final_critic_observations, strict=True)
        known = {str(int(agent)): row.tolist() for agent, row in finals if not np.isnan(row).any()}
        document |= {"final_critic_observations": known} if known else {}
    if rollout.reward_parts:
        document["reward_parts"] = {name: encode(part) for name, part in rollout.reward_parts.items()}
    return orjson.dumps(document)


def _to_lists(column: npt.NDArray[Any]) -> list[Any]:
    return list(column.tolist())


def _to_base64(column: npt.NDArray[Any]) -> dict[str, Any]:
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
        raise RolloutError("`action_space` is neither {names, low, high} nor {n}", hint=SEE_FORMATS) from None
    if isinstance(space, ContinuousActions):
        sizes = {len(space.names), len(space.low), len(space.high)}
        if len(sizes) != 1 or any(low >= high for low, high in zip(space.low, space.high, strict=False)):
            raise RolloutError("`action_space` needs a `low` and a larger `high` for each name", hint=SEE_FORMATS)
    return space


def _require_indices(actions: Float32, n: int) -> None:
    finite = actions[np.isfinite(actions)]
    if (finite != np.floor(finite)).any() or (finite < 0).any() or (finite >= n).any():
        raise RolloutError(f"`actions` are not whole numbers from 0 to {n - 1}", hint=SEE_FORMATS)


def _log_probs(document: dict[str, Any], n: int) -> Float32:
    """Return the recorded log_probs; NaN marks a step of an unknown policy."""
    if document.get("log_probs") is None:
        return np.full(n, np.nan, dtype=np.float32)
    return column_of(document, "log_probs", ndim=1, length=n)


def _values(document: dict[str, Any], n: int) -> Float32:
    """Return the recorded values, or zeros if they cannot be read: they are never used."""
    try:
        return column_of(document, "values", ndim=1, length=n)
    except RolloutError:
        return np.zeros(n, dtype=np.float32)


def _agents(document: dict[str, Any], n: int) -> AgentColumn:
    """Return the agent of each step, 0 if the column is missing."""
    value = document.get("agents")
    if value is None:
        return AgentColumn(np.zeros(n, dtype=np.int32))
    if isinstance(value, ListText):
        agents = agents_from_values(value.values(), "agents")
    elif isinstance(value, dict):
        column = from_base64(value, "agents")
        if column.ndim != 1 or (column.dtype.kind == "f" and not (np.abs(column) <= 2**53).all()):
            raise RolloutError("`agents` are not always whole numbers", hint="number the agents from 0")
        whole = column.astype(np.int64)
        if (whole != column).any():
            raise RolloutError("`agents` are not always whole numbers", hint="number the agents from 0")
        agents = agents_from_numbers(whole)
    elif isinstance(value, list):
        agents = agents_from_values(value, "agents")
    else:
        raise RolloutError("`agents` is neither a list nor a base64 column", hint=SEE_FORMATS)
    if len(agents.ids) != n:
        raise RolloutError(
            f"`agents` has {len(agents.ids)} rows, but `observations` has {n}", hint="write one row for each step"
        )
    return agents


def _finals(
    document: dict[str, Any], column: str, of_steps: Numbers, agents: AgentColumn
) -> tuple[Numbers, Int32] | None:
    """Return what a column has for the state after the agents' last steps, and the ids of these agents.

    `of_steps` is the column of the steps. Returns None if the column is missing or empty.
    """
    size = of_steps.shape[1]
    value = document.get(column)
    if value is None or value in ([], {}):
        return None
    names = [agent_name(name, f"a key of `{column}`") for name in value] if _is_by_agent(value) else None
    rows = value if names is None else [row.values() if isinstance(row, ListText) else row for row in value.values()]
    observations = numbers_of(rows, column, ndim=None if size == 1 else 2)
    with np.errstate(over="ignore", invalid="ignore"):
        observations = observations.astype(of_steps.dtype, copy=False)
    observations = observations.reshape(len(observations), -1)
    if observations.shape[1] != size:
        steps = column.removeprefix("final_")
        raise RolloutError(
            f"`{column}` has {observations.shape[1]} columns, but `{steps}` has {size}", hint=SEE_FORMATS
        )
    if names is None:
        return observations, _agents_of_list(column, len(observations), agents)
    if len(set(names)) != len(names):
        raise RolloutError(f"`{column}` contains an agent twice", hint=SEE_FORMATS)
    ids = [agents.id_of(name) for name in names]
    unknown = [name for name, agent in zip(names, ids, strict=True) if agent is None and isinstance(name, str)]
    if unknown:
        raise RolloutError(
            f"`{column}` contains the agent '{printable(unknown[0], limit=40)}', which has no step",
            hint="name the agents as in `agents`",
        )
    found = [row for row, agent in enumerate(ids) if agent is not None]
    return observations[found], np.array([ids[row] for row in found], dtype=np.int32)


def _final_critic_observations(
    document: dict[str, Any], steps: Numbers | None, final_agents: Int32, agents: AgentColumn
) -> Numbers | None:
    """Return the critic observations after the agents' last steps: a row for each final observation, NaN if missing."""
    finals = None if steps is None else _finals(document, "final_critic_observations", steps, agents)
    if steps is None:
        if not has_no_numbers(document.get("final_critic_observations")):
            raise RolloutError(
                "it has `final_critic_observations`, but no `critic_observations`", hint="write both, or neither"
            )
        return None
    rows = np.full((len(final_agents), steps.shape[1]), np.nan, dtype=steps.dtype)
    if finals is None:
        return rows
    if not len(final_agents):
        raise RolloutError(
            "it has `final_critic_observations`, but no `final_observations`",
            hint="write `final_observations` too: the policy needs them to know what comes next",
        )
    row_of = {int(agent): row for row, agent in enumerate(final_agents)}
    for observation, agent in zip(*finals, strict=True):
        if int(agent) in row_of:
            rows[row_of[int(agent)]] = observation
    return rows


def _is_by_agent(value: Any) -> bool:
    return isinstance(value, dict) and "dtype" not in value


def _agents_of_list(column: str, count: int, agents: AgentColumn) -> Int32:
    """Return the agents of a list of final observations, if its length leaves no doubt. Raises RolloutError."""
    order, by_name = agents.in_order(), agents.ordered_by_name()
    are_numbered = agents.names is None and by_name == list(range(len(by_name)))
    if count != len(order) or not (are_numbered or order == by_name):
        raise RolloutError(
            f"`{column}` is a list of {count}, but {len(order)} agents have steps, and a list does not state"
            " which agents are meant",
            hint="write an object: agent to observation",
        )
    return np.array(by_name, dtype=np.int32)


def _reward_parts(document: dict[str, Any], n: int) -> dict[str, Float32]:
    parts = document.get("reward_parts") or {}
    if not isinstance(parts, dict):
        raise RolloutError("`reward_parts` is not an object of columns", hint=SEE_FORMATS)
    require_plain_names(parts, "a reward part")
    return {name: as_float32(part, f"reward_parts.{name}", ndim=1, length=n) for name, part in parts.items()}


def _whole_number(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None or _is_infinite(value):
        return None
    if type(value) is not int or not 0 <= value < 2**53:
        raise RolloutError(f"`{name}` is not a whole number from 0", hint="0 is the initial model")
    return value


def _positive(document: dict[str, Any], name: str) -> float | None:
    value = document.get(name)
    if value is None or _is_infinite(value):
        return None
    if type(value) not in {int, float} or not 0 <= value <= 100:
        raise RolloutError(f"`{name}` is not a number from 0 to 100", hint="1 is the trained amount of noise")
    return float(value)


def _is_infinite(value: Any) -> bool:
    """Return whether a value of the document stands for an infinity."""
    return isinstance(value, float) and abs(value) > _LARGEST
