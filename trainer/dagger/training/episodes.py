"""Playing episodes: several worlds in step, an expert or a policy at the wheel, every visited state labelled.

Who drives is a coin, who is right is not: the label is always the expert's. Everything that chance decides in an
episode comes from that episode's own seed, so that nothing depends on which world plays it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.dagger.actions import Labels
from trainer.dagger.environment import MilestoneEnv
from trainer.dagger.expert.client import Expert, stack

_PENDING = 256
"""States of one episode that may wait for their labels."""
PolicyFn = Callable[[NDArray[Any]], Labels]
"""A policy: labels [n, ...] for observations [n, ...]."""


class FrameSink(Protocol):
    """What takes pictures of an episode."""

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add one frame [height, width, 3]."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every episode of a milestone has in common."""

    milestone_id: str
    start: bytes | None  #: None = where the environment's reset leads
    max_steps: int


@dataclass(frozen=True, slots=True)
class Episode:
    """How one episode went."""

    number: int
    success: bool
    steps: int


@dataclass(frozen=True, slots=True)
class LabelledEpisode:
    """One episode's visited states with the expert's labels."""

    episode: Episode
    observations: NDArray[Any]  #: [n, ...]
    labels: Labels  #: [n, ...]


@dataclass(slots=True)
class _Lane:
    """One world in the middle of an episode."""

    env: MilestoneEnv
    number: int
    observation: NDArray[Any]
    coin: NDArray[np.bool_]  #: [max_steps] whether the expert drives
    frames: FrameSink | None
    steps: int = 0
    observations: list[NDArray[Any]] = field(default_factory=list)
    labels: dict[int, Labels] = field(default_factory=dict)
    pending: list[tuple[int, Any]] = field(default_factory=list)

    def ask(self, expert: Expert) -> None:
        """Have every waiting state labelled."""
        places = [place for place, _ in self.pending]
        answers = expert.label([state for _, state in self.pending])
        self.labels.update(zip(places, answers, strict=True))
        self.pending.clear()


def play(
    worlds: Sequence[MilestoneEnv],
    task: Task,
    seeds: Sequence[int],
    policy: PolicyFn,
    *,
    cameras: dict[int, FrameSink] | None = None,
) -> Iterator[Episode]:
    """Let a policy play one episode a seed; they are given as they end. `cameras` film those of their numbers."""

    def begin(env: MilestoneEnv, number: int, seed: int) -> _Lane:
        return _begin(env, task, number, seed, np.zeros(0, bool), (cameras or {}).get(number))

    def decide(lanes: list[_Lane]) -> Iterable[Any]:
        return policy(np.stack([lane.observation for lane in lanes]))

    for _, episode in _played(worlds, task, seeds, begin, decide):
        yield episode


def collect(
    worlds: Sequence[MilestoneEnv],
    task: Task,
    seeds: Sequence[int],
    coins: Sequence[NDArray[np.bool_]],
    policy: PolicyFn,
    expert: Expert,
) -> Iterator[LabelledEpisode]:
    """Play one episode a seed; in step t of episode e the expert drives where `coins[e][t]`, else the policy."""

    def begin(env: MilestoneEnv, number: int, seed: int) -> _Lane:
        return _begin(env, task, number, seed, coins[number], None)

    for lane, episode in _played(worlds, task, seeds, begin, lambda lanes: _decide(lanes, policy, expert)):
        lane.ask(expert)
        labels = stack([lane.labels[t] for t in range(episode.steps)], lane.env.actions)
        yield LabelledEpisode(episode, np.stack(lane.observations), labels)


def _played(
    worlds: Sequence[MilestoneEnv],
    task: Task,
    seeds: Sequence[int],
    begin: Callable[[MilestoneEnv, int, int], _Lane],
    decide: Callable[[list[_Lane]], Iterable[Any]],
) -> Iterator[tuple[_Lane, Episode]]:
    """Play one episode a seed, as many at a time as there are worlds; give each as it ends."""
    waiting = list(enumerate(seeds))[::-1]
    lanes: list[_Lane] = []
    free = list(worlds)[::-1]
    while waiting or lanes:
        while waiting and free:
            lanes.append(begin(free.pop(), *waiting.pop()))
        going = []
        for lane, action in zip(lanes, decide(lanes), strict=True):
            if (episode := _step(lane, task, action)) is None:
                going.append(lane)
            else:
                free.append(lane.env)
                yield lane, episode
        lanes = going


def demonstrate(
    env: MilestoneEnv, task: Task, seed: int, expert: Expert, frames: FrameSink | None
) -> tuple[Episode, bytes]:
    """Let the expert play one episode by itself; give how it went, and the state at its end."""
    lane = _begin(env, task, 0, seed, np.zeros(0, bool), frames)
    while True:
        if (episode := _step(lane, task, expert.label([env.expert_state()])[0])) is not None:
            return episode, env.save_state()


def _begin(
    env: MilestoneEnv, task: Task, number: int, seed: int, coin: NDArray[np.bool_], frames: FrameSink | None
) -> _Lane:
    lane = _Lane(env, number, env.begin(seed, task.start), coin, frames)
    if frames is not None:
        frames.write(env.frame())
    return lane


def _decide(lanes: list[_Lane], policy: PolicyFn, expert: Expert) -> list[Labels]:
    """Note what each lane sees and give what it does; the labels of those that the policy drives may wait."""
    actions: list[Labels | None] = [None] * len(lanes)
    driven = [bool(lane.coin[lane.steps]) for lane in lanes]
    asked = [i for i, by_expert in enumerate(driven) if by_expert]
    answers = expert.label([lanes[i].env.expert_state() for i in asked]) if asked else []
    for i, answer in zip(asked, answers, strict=True):
        actions[i] = lanes[i].labels[lanes[i].steps] = answer
    own = [i for i, by_expert in enumerate(driven) if not by_expert]
    if own:
        for i, action in zip(own, policy(np.stack([lanes[i].observation for i in own])), strict=True):
            actions[i] = action
    for i, lane in enumerate(lanes):
        if not driven[i]:
            lane.pending.append((lane.steps, lane.env.expert_state()))
            if len(lane.pending) >= _PENDING:
                lane.ask(expert)
        lane.observations.append(lane.observation)
    return [action for action in actions if action is not None]


def _step(lane: _Lane, task: Task, action: Labels) -> Episode | None:
    """Go one step on; give the episode where it is over. What is reached counts, also with the last step."""
    lane.observation, over, reached = lane.env.step(action)
    lane.steps += 1
    if lane.frames is not None:
        lane.frames.write(lane.env.frame())
    success = task.milestone_id in reached
    return Episode(lane.number, success, lane.steps) if success or over or lane.steps >= task.max_steps else None


@dataclass(frozen=True, slots=True)
class EpisodeStatistics:
    """Episodes in numbers."""

    success_rate: float
    mean_steps: float | None  #: over the successes; None = there were none
    std_steps: float | None

    def better_than(self, other: EpisodeStatistics | None) -> bool:
        """Compare by success rate, then by steps."""
        if other is None or self.success_rate != other.success_rate:
            return other is None or self.success_rate > other.success_rate
        return self.mean_steps is not None and (other.mean_steps is None or self.mean_steps < other.mean_steps)


def score_of(episodes: Sequence[Episode]) -> EpisodeStatistics:
    """Sum up."""
    steps = np.array([episode.steps for episode in episodes if episode.success], np.float64)
    if not len(steps):
        return EpisodeStatistics(0.0, None, None)
    return EpisodeStatistics(len(steps) / len(episodes), float(steps.mean()), float(steps.std()))
