"""A rollout in memory: its columns and their limits."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.contract import MAX_CHOICES, MAX_NAME, ContinuousActions, PolicyContract
from schemas.errors import RolloutError
from schemas.text import printable

Float32 = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.floating[Any]]
"""Observations: float32, or float64 if float32 would round differences away; see `narrowed`."""
Int32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

SEE_FORMATS = "see `hotlap docs formats`"
"""The hint of most errors."""
_FIELD_OF_SPELLING = {
    name.replace("_", ""): name for name in ("state", "action", "reward", "done", "log_prob", "agent_index")
}
MAX_ROLLOUT_BYTES = 128 * 1024 * 1024
MAX_VALUES = 1 << 24
"""Numbers in a file, and in a column: 2048 observations of 8192 values."""
MAX_OBJECTS = 1 << 21
"""Objects and lists in a file; version 1 has three for each experience."""
MAX_OBSERVATION_SIZE = 1 << 17
MAX_ACTIONS = 1024
_SPREAD_ROWS = 64
_ROUNDING = 6e-5
"""float32 rounds by 6e-8 of a number: a thousandth of a spread that is this part of it."""
MAX_MAGNITUDE = 1e12
"""Larger numbers are treated as not finite: arithmetic on them could overflow float32."""


class LeftOut(NamedTuple):
    """One column in which a value made experiences unusable."""

    column: str  #: "observation 5", "action steer", "reward"
    rows: int  #: the number of experiences whose value in this column cannot be used
    value: str  #: the first such value: "3.4e+38", "inf" or "nan"


class Recovered(NamedTuple):
    """What was recovered because several agents share an agent_index."""

    agents: int  #: how many there usually are at the same time
    confidence: float  #: from 0 to 1, the expected share of the steps whose next row is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The experiences of a file as columns, in the order of the file; n experiences, O observations, A action numbers.

    Agents are interleaved. The steps of an agent are in the order of time.
    """

    contract: PolicyContract
    observations: Numbers  #: [n, O]
    actions: Float32  #: [n, A]; discrete actions: [n, 1], the index of the choice
    rewards: Float32  #: [n]
    terminated: Bools  #: [n], the episode ended by the rules of the game
    truncated: Bools  #: [n], a limit ended the episode, which would have continued
    log_probs: Float32  #: [n], nats, as the engine recorded them; NaN if it recorded none: the policy is unknown
    values: Float32  #: [n], as the engine recorded them, 0 if it did not; never used
    agents: Int32  #: [n]
    after_gap: Bools  #: [n], the agent's experience before this one was left out
    final_observations: Numbers  #: [k, O], the observation after an agent's last step
    final_agents: Int32  #: [k], the agents of `final_observations`
    reward_parts: dict[str, Float32]  #: name -> [n]
    policy_version: int | None  #: as the engine recorded it; None in version 1
    noise_std: float | None  #: the engine's factor on the standard deviation; None in version 1
    left_out: int  #: how many experiences were left out because they were not finite
    causes: tuple[LeftOut, ...] = ()  #: the columns that caused it
    states_bounds: bool = True  #: whether the file itself states the bounds of the actions
    recovered: Recovered | None = None  #: set if `agents` are tracks that were recovered from the observations
    critic_observations: Numbers | None = None  #: [n, P], what only critics see; None if the file has none
    final_critic_observations: Numbers | None = None  #: [k, P], of `final_agents`; a row is NaN if it is not known

    @property
    def size(self) -> int:
        """Return the number of experiences."""
        return len(self.rewards)

    @property
    def critic_width(self) -> int:
        """Return P, the number of critic observations; 0 if there are none."""
        return 0 if self.critic_observations is None else self.critic_observations.shape[1]


def narrowed(columns: Numbers) -> Numbers:
    """Return columns [n, X] as float32, or as they are if float32 would round the differences in one of them away.

    A clock is an example: seconds since 1970 are multiples of 128 in float32. Such columns stay float64 until their
    mean is subtracted. The middle half of a few rows decides, so that a few wrong numbers do not matter.
    """
    if columns.dtype == np.float32:
        return columns
    with np.errstate(over="ignore", invalid="ignore"):
        some = np.sort(np.nan_to_num(columns[:: max(1, len(columns) // _SPREAD_ROWS)]), axis=0)
        low, middle, high = (some[len(some) * quarter // 4] for quarter in (1, 2, 3))
        spread = high - low
        is_rounded = (spread > 0) & (spread < _ROUNDING * np.abs(middle)) & (np.abs(middle) <= MAX_MAGNITUDE)
        return columns if is_rounded.any() else columns.astype(np.float32)


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


def unknown_format(keys: Collection[str], schema: Any, known: str) -> RolloutError:
    """Return the error for a JSON object with these keys that is neither version 1 nor of the `known` schema."""
    if schema is None:
        other = next((key for key in keys if key.lower() == "experiences"), None)
        hint = f"name `{printable(other)}` `experiences`" if other else f"check that this is a rollout; {SEE_FORMATS}"
        return RolloutError("the file has no `experiences`", hint=hint)
    named = f"'{schema[:60]}'" if isinstance(schema, str) else f"of type {type(schema).__name__}"
    return RolloutError(
        f"the schema {named} is unknown", hint=f"write {known}, or version 1 without a schema", code="E_VERSION"
    )


def misnamed_field(keys: Collection[str]) -> tuple[str, str] | None:
    """Return a key of an experience that is a field of version 1 in another spelling, and the field; None if none is.

    Unreal's FJsonObjectConverter, for example, writes `agentIndex` and `logProb`.
    """
    for key in keys:
        field = _FIELD_OF_SPELLING.get(key.replace("_", "").replace(" ", "").replace("-", "").lower())
        if field is not None and field not in keys:
            return key, field
    return None


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
