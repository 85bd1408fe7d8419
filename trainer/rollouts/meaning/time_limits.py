"""Version 1 cannot say that a time limit ended an episode: such ends are found by the lengths of the episodes.

A time limit ends many episodes after exactly the same number of steps, and none is longer. Ends by the game's rules are
spread, or earn an unusual reward. An episode that a limit ended would have continued, so its value does not end there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from schemas.rollout.rollout import Bools
from trainer.common.reporting.reporter import Notices
from trainer.common.shapes import Int64
from trainer.rollouts.experiences import Experiences
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.meaning.continuation import Continuation

_SHORTEST = 20  #: steps; shorter episodes are more likely a game's own rule
_REPEATS = 5  #: episodes that must have the same length
_NEAR = 0.8  #: of the limit; the lengths from here to the limit show whether ends are spread
_ISOLATED = 3  #: times as many episodes must end at the limit as near it


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A time limit that version 1 rollouts show."""

    steps: int
    ended_B: Bools  #: the experiences at which it ended an episode

    @property
    def count(self) -> int:
        """Return how many episodes it ended."""
        return int(self.ended_B.sum())


def find_time_limit(
    loaded: Sequence[LoadedRollout],
    experiences: Experiences,
    continuations: Mapping[int, Continuation] = MappingProxyType({}),
) -> TimeLimit | None:
    """Return the time limit of an engine that writes version 1, or None without evidence of one.

    `experiences` are those of the rollouts, each in agent-major order. An episode may continue in the new rollout with
    the next number in its name, and in what continues an old one. If steps are missing between two files, several
    clients wrote them, or the engine started again between them, the lengths of the episodes do not repeat, or some are
    longer, and no limit is found.
    """
    end_B, length_B, is_complete_B = _episode_ends(loaded, experiences.size, continuations)
    complete = length_B[end_B & is_complete_B]
    if not len(complete) or (steps := int(complete.max())) < _SHORTEST:
        return None
    at_limit = int((complete == steps).sum())
    near_limit = int(((complete >= _NEAR * steps) & (complete < steps)).sum())
    if at_limit < max(_REPEATS, _ISOLATED * near_limit):
        return None
    if at_limit < len(complete) and np.ptp(experiences.reward_B) == 0.0:
        return None  # the lengths are all that such rewards can be learned from
    # If most episodes end at the limit, those whose start is not known most likely do so, too.
    is_usual = 2 * at_limit > len(complete)
    ended_B = end_B & ((is_complete_B & (length_B == steps)) | (~is_complete_B & (length_B <= steps) & is_usual))
    if _is_rewarded(experiences, end_B, ended_B & is_complete_B):
        return None
    return TimeLimit(steps, ended_B)


def continue_episodes(experiences: Experiences, ended_B: Bools) -> Experiences:
    """Return experiences in which these ends count as truncated: their next state is not known."""
    traces_B = experiences.trace_continues_B & ~np.append(ended_B[1:], False)
    return replace(
        experiences,
        terminated_B=experiences.terminated_B & ~ended_B,
        can_bootstrap_B=experiences.can_bootstrap_B & ~ended_B,
        trace_continues_B=traces_B,
    )


def report_time_limit(limit: TimeLimit, notices: Notices) -> None:
    """Send a notice about a time limit that was found."""
    notices.send(
        "W_TIME_LIMIT",
        f"{limit.count} episodes ended after exactly {limit.steps} steps, and none is longer: this is taken for a time "
        "limit, so the value of their last state counts as if they continued. If the game ends there by its rules, or "
        "to be exact, write version 2, which has `terminated` and `truncated`",
    )


def _episode_ends(
    loaded: Sequence[LoadedRollout], size: int, continuations: Mapping[int, Continuation]
) -> tuple[Bools, Int64, Bools]:
    """Return for each experience whether it ends an episode in version 1, its number in it, and if its start is known.

    The numbers count from 1, and from the agent's first experience if the episode began before that.
    """
    end_B, is_complete_B = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    length_B = np.zeros(size, dtype=np.int64)
    columns = _in_time_order(loaded, continuations)
    if columns is None:
        return end_B, length_B, is_complete_B
    rows, agents, ends, gaps = columns
    n = np.arange(len(rows))
    after_end = np.append(False, ends[:-1])
    is_first = np.append(True, agents[1:] != agents[:-1])
    last_start = np.maximum.accumulate(np.where(is_first | after_end | gaps, n, 0))
    end_B[rows] = ends
    length_B[rows] = n - last_start + 1
    is_complete_B[rows] = (after_end & ~is_first & ~gaps)[last_start]
    return end_B, length_B, is_complete_B


def _in_time_order(
    loaded: Sequence[LoadedRollout], continuations: Mapping[int, Continuation]
) -> tuple[Int64, Int64, Bools, Bools] | None:
    """Return the version 1 experiences agent by agent, in the order of time, or None if hardly any episode ended.

    The columns are: the row in the cycle's experiences, the agent, whether it ends an episode, whether it is after a
    gap. An agent of an old rollout continues only in a known continuation. One of a rollout whose agents were recovered
    does not continue in another rollout.
    """
    firsts = np.cumsum([0, *(item.rollout.size for item in loaded)])
    by_name = sorted(range(len(loaded)), key=lambda index: _number(loaded[index].entry.name))
    chosen = [index for index in by_name if not loaded[index].rollout.states_bounds]
    if sum(int(loaded[index].rollout.terminated.sum()) for index in chosen) < _REPEATS:
        return None
    end_of = dict(zip(chosen, chosen, strict=True))
    for index in reversed(chosen):
        if index in continuations:
            end_of[index] = end_of[continuations[index].place]
    parts = []
    for index in chosen:
        rollout = loaded[index].rollout
        order = np.argsort(rollout.agents, kind="stable")  # as in `by_agent`
        end = end_of[index]
        group = 0 if loaded[end].entry.is_new and not rollout.recovered else end + 1
        agents = rollout.agents[order].astype(np.int64) + group * 2**32
        rows = firsts[index] + np.arange(rollout.size)
        parts.append((rows, agents, rollout.terminated[order], rollout.after_gap[order]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    by_agent = np.argsort(columns[1], kind="stable")
    rows, agents, ends, gaps = (column[by_agent] for column in columns)
    return rows, agents, ends, gaps


def _number(name: str) -> tuple[int, str]:
    """Return the number in a rollout's name, and the name, to order rollouts as an engine wrote them."""
    found = re.match(r"rollout_(\d+)_", name)
    return int(found[1]) if found else 0, name


def _is_rewarded(experiences: Experiences, end_B: Bools, ended_B: Bools) -> bool:
    """Return whether most of these ends earn a reward that no step within an episode earns: a rule of the game."""
    usual = experiences.reward_B[~end_B]
    if not len(usual):
        return True
    reward = experiences.reward_B[ended_B]
    return bool(((reward < usual.min()) | (reward > usual.max())).mean() > 0.5)
