"""What the action space of a Gymnasium environment means for a policy, and how actions convert."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import MAX_CHOICES, ActionSpace, ContinuousActions, DiscreteActions
from schemas.errors import ConfigError
from trainer.envs.vec_env import Float32

_UNBOUNDED = 1e10
"""A bound of this size or more does not say which actions are useful."""


@dataclass(frozen=True, slots=True)
class Actions:
    """The action space of a policy. `convert` turns its actions [n, A] into those of n environments."""

    space: ActionSpace
    convert: Callable[[Float32], npt.NDArray[Any]]
    note: str = ""  #: what users should know


def actions_of(space: Any, name: str) -> Actions:
    """Return the actions for an action space of the environment `name`. Raises ConfigError (E_ENV)."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return Actions(
            _choices(int(space.n), name), lambda choice_N1: np.asarray(choice_N1[:, 0].astype(np.int64) + start)
        )
    if isinstance(space, spaces.MultiDiscrete):
        return _joined(space.nvec.reshape(-1), space, name)
    if isinstance(space, spaces.MultiBinary):
        return _joined(np.full(int(np.prod(space.shape)), 2), space, name)
    if isinstance(space, spaces.Box):
        return _bounded(space, name)
    hint = "use an environment or a wrapper whose actions are Box, Discrete, MultiDiscrete or MultiBinary"
    raise ConfigError(f"the actions of {name} are a {type(space).__name__} space", hint=hint, code="E_ENV")


def _choices(n: int, name: str) -> DiscreteActions:
    if not 2 <= n <= MAX_CHOICES:
        raise ConfigError(
            f"{name} has {n:,} different actions", hint=f"a policy needs 2 to {MAX_CHOICES:,} of them", code="E_ENV"
        )
    return DiscreteActions(n=n)


def _joined(sizes: npt.NDArray[Any], space: Any, name: str) -> Actions:
    """Return one choice for each combination of several choices; the last one changes first."""
    shape = tuple(int(size) for size in sizes)
    start = np.asarray(getattr(space, "start", 0)).reshape(-1)

    def convert(choice_N1: Float32) -> npt.NDArray[Any]:
        parts_NK = np.stack(np.unravel_index(choice_N1[:, 0].astype(np.int64), shape), axis=1) + start
        return np.asarray(parts_NK.reshape(-1, *space.shape).astype(space.dtype))

    n = math.prod(shape)
    note = f"actions of {name}: the combinations of {' x '.join(map(str, shape))} choices are {n:,} choices"
    return Actions(_choices(n, name), convert, note)


def _bounded(space: Any, name: str) -> Actions:
    """Return continuous actions that are scaled from [-1, 1] to the bounds of a Box.

    A range without a bound is the part of the width 2 at the other bound, or [-1, 1] without both.
    """
    low_A, high_A = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    has_low_A, has_high_A = np.abs(low_A) < _UNBOUNDED, np.abs(high_A) < _UNBOUNDED
    note = ""
    if not (has_low_A & has_high_A).all():
        start_A = np.where(has_low_A, low_A, np.where(has_high_A, high_A - 2.0, -1.0))
        low_A, high_A = start_A, np.where(has_high_A, high_A, start_A + 2.0)
        ranges = ", ".join(
            f"[{low:g}, {high:g}]" for low, high in sorted(set(zip(low_A.tolist(), high_A.tolist(), strict=True)))[:3]
        )
        note = f"actions of {name} without bounds: the policy uses {ranges}; give the Box finite bounds to change that"
    if not len(low_A) or (low_A >= high_A).any():
        hint = "correct its action_space"
        raise ConfigError(f"the actions of {name} have an empty range: {space}", hint=hint, code="E_ENV")
    is_whole = np.issubdtype(space.dtype, np.integer)

    def convert(action_NA: Float32) -> npt.NDArray[Any]:
        scaled_NA = np.clip(low_A + (action_NA.astype(np.float64) + 1.0) * 0.5 * (high_A - low_A), low_A, high_A)
        whole_or_not_NA = np.rint(scaled_NA) if is_whole else scaled_NA
        return np.asarray(whole_or_not_NA.astype(space.dtype).reshape(-1, *space.shape))

    return Actions(ContinuousActions.named(tuple(f"action_{i}" for i in range(len(low_A)))), convert, note)
