"""A rollout in memory: the columns, their limits, and what is done about experiences that are not finite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.text import printable

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

MAX_ROLLOUT_BYTES = 128 * 1024 * 1024
MAX_VALUES = 1 << 24
"""Numbers in one file, and in one column: 2048 observations of 8192 values."""
MAX_OBJECTS = 1 << 21
"""Objects and lists in one file; version 1 has three an experience."""
MAX_OBSERVATION_SIZE = 1 << 17
MAX_ACTIONS = 1024
MAX_CHOICES = 1 << 16
MAX_NAME = 128
"""Characters of an action's or a reward part's name."""
MAX_MAGNITUDE = 1e12
"""Numbers beyond this are taken as not finite: their squares would leave float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The experiences of one file as columns, in file order; n experiences, O observations, A action numbers.

    Agents are interleaved; order within an agent is time.
    """

    contract: PolicyContract
    observations: Float32  #: [n, O]
    actions: Float32  #: [n, A]; discrete actions: [n, 1], the index of the choice
    rewards: Float32  #: [n]
    terminated: Bools  #: [n], over by the game's own rules
    truncated: Bools  #: [n], cut by a limit; the episode would have gone on
    log_probs: Float32  #: [n], nats, as the engine recorded them
    values: Float32  #: [n], as the engine recorded them
    agents: Int32  #: [n]
    after_gap: Bools  #: [n], an experience of the same agent right before this one was left out
    final_observations: Float32  #: [k, O], where the last step of an agent led to
    final_agents: Int32  #: [k], whose they are
    reward_parts: dict[str, Float32]  #: name -> [n]
    policy_version: int | None  #: as the engine said; version 1 does not say
    noise_std: float | None  #: the engine's factor on the standard deviation; version 1 does not say
    left_out: int  #: experiences that were not finite

    @property
    def size(self) -> int:
        """How many experiences there are."""
        return len(self.rewards)


def require_sane_contract(contract: PolicyContract) -> None:
    """Refuse sizes that no trainer can build, and names that no screen can show. Raises RolloutError (E_SCHEMA)."""
    space = contract.action_space
    if contract.observation_size > MAX_OBSERVATION_SIZE:
        raise RolloutError(
            f"{contract.observation_size:,} observations are more than {MAX_OBSERVATION_SIZE:,}",
            hint="observe fewer values",
        )
    if not isinstance(space, ContinuousActions):
        if space.n > MAX_CHOICES:
            raise RolloutError(f"{space.n:,} choices are more than {MAX_CHOICES:,}", hint="act in smaller steps")
        return
    if len(space.names) > MAX_ACTIONS:
        raise RolloutError(f"{len(space.names):,} actions are more than {MAX_ACTIONS:,}", hint="see docs/formats.md")
    require_plain_names(space.names, "an action")
    if any(abs(bound) > MAX_MAGNITUDE for bound in (*space.low, *space.high)):
        raise RolloutError(f"a bound of `action_space` is beyond {MAX_MAGNITUDE:g}", hint="see docs/formats.md")


def require_plain_names(names: Iterable[str], whose: str) -> None:
    """Refuse names that are empty, endless, double or not printable. Raises RolloutError (E_SCHEMA)."""
    seen: set[str] = set()
    for name in names:
        if not 0 < len(name) <= MAX_NAME or printable(name) != name:
            raise RolloutError(
                f"the name of {whose} is not 1 to {MAX_NAME} printable characters: '{printable(name, limit=60)}'",
                hint="rename it in the engine",
            )
        if name in seen:
            raise RolloutError(f"{whose} named '{name}' stands there twice", hint="rename one of them")
        seen.add(name)


def drop_not_finite(rollout: Rollout) -> Rollout:
    """Leave out the experiences that hold a value that is not finite, count them, and mark the gaps."""
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
            "no experience of it is finite",
            hint="look for a division by zero where the engine computes observations or rewards",
            code="E_NONFINITE",
        )
    after_gap = rollout.after_gap | _follows_bad(good, rollout.agents)
    last_is_good = {int(agent): bool(ok) for agent, ok in zip(rollout.agents, good, strict=True)}
    keep_final = good_final & np.array([last_is_good.get(int(a), False) for a in rollout.final_agents], dtype=bool)
    kept: dict[str, Any] = {field.name: getattr(rollout, field.name) for field in fields(rollout)}
    for name, value in kept.items():
        if isinstance(value, np.ndarray) and not name.startswith("final_"):
            kept[name] = value[good]
    kept["after_gap"] = after_gap[good]
    kept["final_observations"] = rollout.final_observations[keep_final]
    kept["final_agents"] = rollout.final_agents[keep_final]
    kept["reward_parts"] = {name: part[good] for name, part in rollout.reward_parts.items()}
    kept["left_out"] = rollout.left_out + int((~good).sum())
    return Rollout(**kept)


def _is_finite(column: Float32) -> bool:
    """Return whether no number is beyond MAX_MAGNITUDE; a NaN is the least and the greatest of its column."""
    return not column.size or bool(column.min() >= -MAX_MAGNITUDE and column.max() <= MAX_MAGNITUDE)


def _follows_bad(good: Bools, agents: Int32) -> Bools:
    """Mark each experience whose predecessor, of the same agent, is not good."""
    order = np.argsort(agents, kind="stable")
    same_agent = agents[order][1:] == agents[order][:-1]
    follows = np.zeros(len(good), dtype=bool)
    follows[order[1:]] = same_agent & ~good[order[:-1]]
    return follows
