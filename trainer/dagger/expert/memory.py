"""Whether an expert's actions depend only on the state: it is asked again about states that it has seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.dagger.actions import Labels
from trainer.dagger.expert.client import Expert, ExpertError

MOST_STATES = 48
"""States of an episode that are kept, so that the expert can be asked again."""
_ASKED_TOGETHER = 8
_MAX_S = 10.0
"""Slow experts are asked about fewer states."""
_TOLERANCE = 1e-3
_SAME_FAULTS = ("E_EXPERT_RAISED", "E_EXPERT_NONSENSE")


def examine_memory(expert: Expert, states: Sequence[Any], labels: Sequence[Labels]) -> str:
    """Return a note if the expert acts differently when it is asked again, or "".

    States are asked backwards and twice each, so that a counter, a list of actions, a comparison with the state before
    and random numbers are noticed. Raises ExpertError if the expert's process does not answer any more.
    """
    if not states:
        return ""
    try:
        asked, differing = _ask_again(expert, states, labels)
    except ExpertError as error:
        if error.code not in _SAME_FAULTS:
            raise
        return f"the expert remembers earlier calls: asked again about a state, {_without_name(error.message)}{_ADVICE}"
    if not differing:
        return ""
    if _is_random(expert, states):
        return (
            f"the expert is random: asked again about {asked} states, it acted differently in {differing} -> return "
            "its most likely action, because different labels of one state contradict each other"
        )
    where = f"asked again about {asked} states, it acted differently in {differing}"
    return f"the expert remembers earlier calls, or draws its own random numbers: {where}{_ADVICE}"


_ADVICE = (
    ". States are labelled later and in another order -> let run(state) depend on `state` alone; what else it needs "
    "belongs in the environment's expert_state()"
)


def _without_name(message: str) -> str:
    return message.partition(": ")[2] or message


def _ask_again(expert: Expert, states: Sequence[Any], labels: Sequence[Labels]) -> tuple[int, int]:
    """Return about how many states the expert was asked again, and in how many it acted differently."""
    until_s = time.monotonic() + _MAX_S
    asked = differing = 0
    pairs = list(zip(states, labels, strict=True))[::-1]
    for first in range(0, len(pairs), _ASKED_TOGETHER):
        part = pairs[first : first + _ASKED_TOGETHER]
        again = expert.label([state for state, _ in part for _ in range(2)])
        for k, (_, label) in enumerate(part):
            differing += not all(_is_same(label, other) for other in again[2 * k : 2 * k + 2])
        asked += len(part)
        if time.monotonic() > until_s:
            break
    return asked, differing


def _is_random(expert: Expert, states: Sequence[Any]) -> bool:
    """Return whether the seed of the random numbers decides the actions."""
    answers = []
    for seed in (0, 1, 0):
        expert.seed(seed)
        answers.append(expert.label([state for state in states[:_ASKED_TOGETHER] for _ in range(3)]))
    return _are_same(answers[0], answers[2]) and not _are_same(answers[0], answers[1])


def _are_same(first: Sequence[Labels], second: Sequence[Labels]) -> bool:
    return all(_is_same(a, b) for a, b in zip(first, second, strict=True))


def _is_same(first: Labels, second: Labels) -> bool:
    return bool(np.allclose(first, second, rtol=0.0, atol=_TOLERANCE))
