"""A rollout in memory: its columns, their limits, and the removal of experiences that are not finite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import MAX_NAME, ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.text import printable

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

SEE_FORMATS = "see `hotlap docs formats`"
"""The hint of most errors."""
MAX_ROLLOUT_BYTES = 128 * 1024 * 1024
MAX_VALUES = 1 << 24
"""Numbers in a file, and in a column: 2048 observations of 8192 values."""
MAX_OBJECTS = 1 << 21
"""Objects and lists in a file; version 1 has three for each experience."""
MAX_OBSERVATION_SIZE = 1 << 17
MAX_ACTIONS = 1024
MAX_CHOICES = 1 << 16
MAX_MAGNITUDE = 1e12
"""Larger numbers are treated as not finite: arithmetic on them could overflow float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The experiences of a file as columns, in the order of the file; n experiences, O observations, A action numbers.

    Agents are interleaved. The steps of an agent are in the order of time.
    """

    contract: PolicyContract
    observations: Float32  #: [n, O]
    actions: Float32  #: [n, A]; discrete actions: [n, 1], the index of the choice
    rewards: Float32  #: [n]
    terminated: Bools  #: [n], the episode ended by the rules of the game
    truncated: Bools  #: [n], a limit ended the episode, which would have continued
    log_probs: Float32  #: [n], nats, as the engine recorded them
    values: Float32  #: [n], as the engine recorded them
    agents: Int32  #: [n]
    after_gap: Bools  #: [n], the agent's experience before this one was left out
    final_observations: Float32  #: [k, O], the observation after an agent's last step
    final_agents: Int32  #: [k], the agents of `final_observations`
    reward_parts: dict[str, Float32]  #: name -> [n]
    policy_version: int | None  #: as the engine recorded it; None in version 1
    noise_std: float | None  #: the engine's factor on the standard deviation; None in version 1
    left_out: int  #: how many experiences were left out because they were not finite

    @property
    def size(self) -> int:
        """Return the number of experiences."""
        return len(self.rewards)


def require_contract_limits(contract: PolicyContract) -> None:
    """Raise RolloutError (E_SCHEMA) for sizes that no trainer can build and names that cannot be printed."""
    space = contract.action_space
    if contract.observation_size > MAX_OBSERVATION_SIZE:
        raise RolloutError(
            f"it has {contract.observation_size:,} observations, more than the {MAX_OBSERVATION_SIZE:,} allowed",
            hint="observe fewer values",
        )
    if not isinstance(space, ContinuousActions):
        if space.n > MAX_CHOICES:
            raise RolloutError(
                f"it has {space.n:,} choices, more than the {MAX_CHOICES:,} allowed", hint="use fewer choices"
            )
        return
    if len(space.names) > MAX_ACTIONS:
        raise RolloutError(
            f"it has {len(space.names):,} actions, more than the {MAX_ACTIONS:,} allowed", hint="use fewer actions"
        )
    require_plain_names(space.names, "an action")
    if any(abs(bound) > MAX_MAGNITUDE for bound in (*space.low, *space.high)):
        raise RolloutError(f"a bound of `action_space` is larger than {MAX_MAGNITUDE:g}", hint=SEE_FORMATS)


def require_plain_names(names: Iterable[str], owner: str) -> None:
    """Raise RolloutError (E_SCHEMA) for names that are empty, too long, used twice or not printable."""
    known: set[str] = set()
    for name in names:
        if not 0 < len(name) <= MAX_NAME or printable(name) != name:
            raise RolloutError(
                f"the name of {owner} is not 1 to {MAX_NAME} printable characters: '{printable(name, limit=60)}'",
                hint="rename it in the engine",
            )
        if name in known:
            raise RolloutError(f"the name '{name}' of {owner} is used twice", hint="rename one of them")
        known.add(name)


def drop_not_finite(rollout: Rollout) -> Rollout:
    """Return the rollout without the experiences that contain a value that is not finite; count them and mark the gaps.

    Raises RolloutError (E_NONFINITE) if all experiences contain such a value.
    """
    wide = (rollout.observations, rollout.actions)
    flat = (rollout.rewards, rollout.log_probs, rollout.values, *rollout.reward_parts.values())
    if all(map(_is_finite, (*wide, *flat, rollout.final_observations))):
        return rollout
    with np.errstate(invalid="ignore"):
        good = np.logical_and.reduce([(np.abs(column) <= MAX_MAGNITUDE).all(axis=1) for column in wide])
        for column in flat:
            good &= np.abs(column) <= MAX_MAGNITUDE
        good_final = (np.abs(rollout.final_observations) <= MAX_MAGNITUDE).all(axis=1)
    if not good.any():
        raise RolloutError(
            "every experience contains a value that is not finite",
            hint="look for a division by zero where the engine computes observations or rewards",
            code="E_NONFINITE",
        )
    after_gap = rollout.after_gap | _follows_bad(good, rollout.agents)
    last_is_good = {int(agent): bool(ok) for agent, ok in zip(rollout.agents, good, strict=True)}
    keep_final = good_final & np.array([last_is_good.get(int(a), False) for a in rollout.final_agents], dtype=bool)
    columns: dict[str, Any] = {field.name: getattr(rollout, field.name) for field in fields(rollout)}
    for name, value in columns.items():
        if isinstance(value, np.ndarray) and not name.startswith("final_"):
            columns[name] = value[good]
    columns["after_gap"] = after_gap[good]
    columns["final_observations"] = rollout.final_observations[keep_final]
    columns["final_agents"] = rollout.final_agents[keep_final]
    columns["reward_parts"] = {name: part[good] for name, part in rollout.reward_parts.items()}
    columns["left_out"] = rollout.left_out + int((~good).sum())
    return Rollout(**columns)


def _is_finite(column: Float32) -> bool:
    """Return whether all numbers are finite; a NaN is both the minimum and the maximum of its column."""
    return not column.size or bool(column.min() >= -MAX_MAGNITUDE and column.max() <= MAX_MAGNITUDE)


def _follows_bad(good: Bools, agents: Int32) -> Bools:
    """Return which experiences follow a bad one of the same agent."""
    order = np.argsort(agents, kind="stable")
    same_agent = agents[order][1:] == agents[order][:-1]
    follows = np.zeros(len(good), dtype=bool)
    follows[order[1:]] = same_agent & ~good[order[:-1]]
    return follows
