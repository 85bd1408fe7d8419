"""Which version 1 rollout continues which: version 1 does not state what follows an agent's last step in a file.

An engine that plays on while it writes begins its next file one step later. So the first state of each agent there is
the next state of the agent's last step here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.rollout.rollout import Bools, Float32, Int32, Rollout
from trainer.common.shapes import Float64, Int64
from trainer.rollouts.loading import LoadedRollout

_USUAL = 0.95
"""Quantile of the changes within a file that the median of the changes between two files may reach."""
_STEPS_COMPARED = 256
"""Steps of a file that show its usual changes."""
_FEWEST_STEPS = 16


@dataclass(frozen=True, slots=True)
class Continuation:
    """The rollout that continues another one, and the next state of each agent that is known."""

    place: int  #: of the later rollout, among those that were loaded
    agents: Int32  #: [k]
    observations: Float32  #: [k, O]


def find_continuations(loaded: Sequence[LoadedRollout]) -> dict[int, Continuation]:
    """Return what continues each rollout of version 1, by its place among those that were loaded.

    The later rollout has the next number in its name and an equal or later time, and most agents change no more between
    the two than they usually do in a step. So an engine that started again does not continue a rollout, and another
    client does not either. An agent that changes more than ever within the file is left out.
    """
    stamps = {place: stamp for place, item in enumerate(loaded) if (stamp := _stamp(item)) is not None}
    counts = Counter(number for number, _ in stamps.values())
    place_of = {number: place for place, (number, _) in stamps.items() if counts[number] == 1}
    found = {}
    for number, place in place_of.items():
        after = place_of.get(number + 1)
        if after is None or stamps[after][1] < stamps[place][1]:
            continue
        continuation = _continuation(loaded[place].rollout, loaded[after].rollout, after)
        if continuation is not None:
            found[place] = continuation
    return found


def with_next_states(loaded: Sequence[LoadedRollout], continuations: Mapping[int, Continuation]) -> list[LoadedRollout]:
    """Return the rollouts with final observations, as in version 2, if they are continued."""
    items = list(loaded)
    for place, next_states in continuations.items():
        rollout = replace(
            loaded[place].rollout, final_observations=next_states.observations, final_agents=next_states.agents
        )
        items[place] = replace(loaded[place], rollout=rollout)
    return items


def _stamp(item: LoadedRollout) -> tuple[int, str] | None:
    """Return the number and the time in the name of a version 1 rollout; None if it cannot be continued or continue."""
    found = re.match(r"rollout_(\d+)_(\d{8}_\d{6})", item.entry.name)
    if found is None or item.rollout.states_bounds or item.rollout.recovered is not None:
        return None
    return int(found[1]), found[2]


def _continuation(rollout: Rollout, later: Rollout, place: int) -> Continuation | None:
    """Return the next states of the agents that play on, or None if the later rollout does not continue this one."""
    order, is_last_B = _by_agent(rollout)
    steps = np.flatnonzero(~is_last_B & ~rollout.terminated[order] & ~np.append(rollout.after_gap[order][1:], True))
    steps = steps[:: max(1, len(steps) // _STEPS_COMPARED)]
    if len(steps) < _FEWEST_STEPS or rollout.observations.shape[1] != later.observations.shape[1]:
        return None
    change_BO = _differences(rollout.observations[order[steps]], rollout.observations[order[steps + 1]])
    scale_O = np.sqrt(np.square(change_BO).mean(axis=0))
    usual_B = _sizes(change_BO, scale_O)

    later_order, later_is_last_B = _by_agent(later)
    first = later_order[np.append(True, later_is_last_B[:-1])]
    last = order[is_last_B]
    agents, here, there = np.intersect1d(
        rollout.agents[last], later.agents[first], assume_unique=True, return_indices=True
    )
    here, there = last[here], first[there]
    plays_on_A: Bools = ~rollout.terminated[here] & ~later.after_gap[there]
    agents, here, there = agents[plays_on_A], here[plays_on_A], there[plays_on_A]
    if not len(agents):
        return None
    next_AO = later.observations[there]
    size_A = _sizes(_differences(rollout.observations[here], next_AO), scale_O)
    if np.median(size_A) > np.quantile(usual_B, _USUAL):
        return None
    is_usual_A = size_A <= usual_B.max()
    return Continuation(place, agents[is_usual_A], next_AO[is_usual_A])


def _by_agent(rollout: Rollout) -> tuple[Int64, Bools]:
    """Return the rows agent by agent, in the order of time, and which of them are an agent's last."""
    order = np.argsort(rollout.agents, kind="stable")
    agents = rollout.agents[order]
    return order, np.append(agents[1:] != agents[:-1], True)


def _differences(before_BO: Float32, after_BO: Float32) -> Float64:
    return after_BO.astype(np.float64) - before_BO


def _sizes(change_BO: Float64, scale_O: Float64) -> Float64:
    """Return the size of each change [B], in units of the scales. A change of what never changes is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        relative_BO = np.where(change_BO == 0.0, 0.0, np.square(change_BO / scale_O))
    return np.asarray(relative_BO.mean(axis=1), np.float64)
