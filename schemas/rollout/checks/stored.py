"""The one check of arrays that come from a file of State/cache: whether reading a rollout file could have made them.

A checksum shows that a file was not damaged, not that its content is right. So nothing that uses a stored rollout needs
to expect other shapes, other types, or numbers that are not finite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions
from schemas.errors import RolloutError
from schemas.rollout.rollout import (
    MAX_MAGNITUDE,
    MAX_OBSERVATION_SIZE,
    Float32,
    LeftOut,
    Recovered,
    Rollout,
    require_contract_limits,
    require_plain_names,
)

_FLOAT32, _FLOAT64 = np.dtype("<f4"), np.dtype("<f8")
_OBSERVATIONS = frozenset(
    {"observations", "final_observations", "critic_observations", "final_critic_observations"}
)  #: float64 if float32 would round their differences away
_COLUMN_TYPES = {
    "observations": _FLOAT32,
    "actions": _FLOAT32,
    "rewards": _FLOAT32,
    "terminated": np.dtype(np.bool_),
    "truncated": np.dtype(np.bool_),
    "log_probs": _FLOAT32,
    "values": _FLOAT32,
    "agents": np.dtype("<i4"),
    "after_gap": np.dtype(np.bool_),
    "final_observations": _FLOAT32,
    "final_agents": np.dtype("<i4"),
}
MAX_TEXT = 1000
"""Characters of a text in the head, such as the column of a cause."""


def require_stored_rollout(rollout: Rollout) -> None:
    """Raise RolloutError (E_SCHEMA) if these are not the columns of a rollout file that was read."""
    require_contract_limits(rollout.contract)
    _require_contract(rollout)
    _require_shapes(rollout)
    _require_numbers(rollout)
    _require_agents(rollout)
    _require_head(rollout)


def _fault(text: str) -> RolloutError:
    return RolloutError(f"the stored arrays are wrong: {text}")


def _require_contract(rollout: Rollout) -> None:
    space = rollout.contract.action_space
    if not isinstance(space, ContinuousActions):
        return
    if not len(space.names) == len(space.low) == len(space.high):
        raise _fault("not every action has bounds")
    if any(not low < high for low, high in zip(space.low, space.high, strict=True)):
        raise _fault("an action's low bound is not smaller than its high one")


def _require_shapes(rollout: Rollout) -> None:
    n, k, size = len(rollout.rewards), len(rollout.final_agents), rollout.contract.observation_size
    if not n:
        raise _fault("no experience")
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_COLUMN_TYPES, (n,))
    shapes |= {"observations": (n, size), "actions": (n, rollout.contract.action_space.width)}
    shapes |= {"final_observations": (k, size), "final_agents": (k,)}
    for name, shape in shapes.items():
        _require_column(name, getattr(rollout, name), _COLUMN_TYPES[name], shape)
    for name, part in rollout.reward_parts.items():
        _require_column(name, part, _FLOAT32, (n,))
    critic, finals = rollout.critic_observations, rollout.final_critic_observations
    if critic is None and finals is not None:
        raise _fault("final critic observations without critic observations")
    if critic is not None:
        width = critic.shape[1] if critic.ndim == 2 else 0
        if not 0 < width <= MAX_OBSERVATION_SIZE:
            raise _fault(f"{width} critic observations")
        _require_column("critic_observations", critic, _FLOAT32, (n, width))
        if finals is not None:
            _require_column("final_critic_observations", finals, _FLOAT32, (k, width))


def _require_column(name: str, column: npt.NDArray[np.generic], kind: np.dtype[np.generic], shape: object) -> None:
    if column.dtype not in {kind, _FLOAT64 if name in _OBSERVATIONS else kind} or column.shape != shape:
        raise _fault(f"{name} is {column.dtype.str} {column.shape} instead of {kind.str} {shape}")
    if kind == np.bool_ and column.view(np.uint8).max(initial=0) > 1:
        raise _fault(f"{name} contains bytes that are not 0 or 1")


def _require_numbers(rollout: Rollout) -> None:
    finite = {name: getattr(rollout, name) for name in ("observations", "actions", "rewards", "values")}
    finite |= {"final_observations": rollout.final_observations, **rollout.reward_parts}
    if rollout.critic_observations is not None:
        finite["critic_observations"] = rollout.critic_observations
    for name, column in finite.items():
        if not _is_finite(column):
            raise _fault(f"{name} contains a value that is not finite")
    optional = {"log_probs": rollout.log_probs, "final_critic_observations": rollout.final_critic_observations}
    for name, column in optional.items():
        if column is not None and not (_is_finite(column) or _is_finite(column[~np.isnan(column)])):
            raise _fault(f"{name} contains an infinity")
    finals = rollout.final_critic_observations
    if finals is not None and np.isnan(finals).any(axis=1).sum() != np.isnan(finals).all(axis=1).sum():
        raise _fault("final_critic_observations contains a row of which only a part is known")
    space = rollout.contract.action_space
    if not isinstance(space, ContinuousActions):
        actions = rollout.actions
        if actions.min() < 0 or actions.max() >= space.n or (actions != np.floor(actions)).any():
            raise _fault(f"an action is not one of {space.n} choices")


def _is_finite(column: Float32) -> bool:
    """Return whether all numbers are usable; a NaN is both the minimum and the maximum of its column."""
    return not column.size or bool(column.min() >= -MAX_MAGNITUDE and column.max() <= MAX_MAGNITUDE)


def _require_agents(rollout: Rollout) -> None:
    finals = rollout.final_agents
    if not len(finals):
        return
    if len(np.unique(finals)) != len(finals) or not np.isin(finals, rollout.agents).all():
        raise _fault("a final observation belongs to no agent, or two belong to the same one")


def _require_head(rollout: Rollout) -> None:
    version, noise = rollout.policy_version, rollout.noise_std
    if version is not None and not (_is_count(version) and version < 2**53):
        raise _fault("policy_version is not a whole number from 0")
    if noise is not None and not (_is_number(noise) and 0.0 <= noise <= 100.0):
        raise _fault("noise_std is not a number from 0 to 100")
    if not _is_count(rollout.left_out) or type(rollout.states_bounds) is not bool:
        raise _fault("left_out or states_bounds has another type")
    for cause in rollout.causes:
        if not (_is_text(cause.column) and _is_count(cause.rows) and _is_text(cause.value)):
            raise _fault(f"{LeftOut.__name__} has another type")
    found = rollout.recovered
    if found is not None and not (_is_count(found.agents) and _is_number(found.confidence)):
        raise _fault(f"{Recovered.__name__} has another type")
    require_plain_names(rollout.reward_parts, "a reward part")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return type(value) in {int, float}


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT
