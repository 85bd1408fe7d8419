"""Episodes of experts and policies, in several environments at the same time.

While labels are collected, the expert acts with probability beta at each step, otherwise the policy. The label of each
visited state is always the expert's action (Ross, Gordon and Bagnell 2011, arXiv:1011.0686). All randomness in an
episode comes from the episode's own seed, so the result does not depend on the number of environments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.dagger.actions import Labels
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.expert.client import Expert
from trainer.dagger.expert.memory import MOST_STATES

_MAX_UNLABELLED = 256
"""States of one episode that are kept until they are labelled together."""
PolicyFn = Callable[[NDArray[Any]], Labels]
"""A policy: labels [n, ...] for observations [n, ...]."""


class FrameSink(Protocol):
    """Records the frames of an episode."""

    def record(self, env: MilestoneEnv) -> None:
        """Add a frame of the environment's current state."""


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """The settings that all episodes of a milestone share."""

    milestone_id: str
    start_state: bytes | None  #: None: the state after the environment's reset
    max_steps: int


@dataclass(frozen=True, slots=True)
class Episode:
    """The outcome of an episode."""

    number: int
    success: bool
    steps: int


@dataclass(frozen=True, slots=True)
class LabelledEpisode:
    """An episode's visited states with the expert's labels."""

    episode: Episode
    observations: NDArray[Any]  #: [n, ...]
    labels: Labels  #: [n, ...]


@dataclass(slots=True)
class _RunningEpisode:
    """An episode in progress, and the environment that runs it."""

    env: MilestoneEnv
    number: int
    observation: NDArray[Any]
    frames: FrameSink | None = None
    steps: int = 0
    observations: list[NDArray[Any]] = field(default_factory=list)
    labels: dict[int, Labels] = field(default_factory=dict)  #: by step
    unlabelled: list[tuple[int, Any]] = field(default_factory=list)  #: steps, and the states for the expert

    def label_states(self, expert: Expert) -> None:
        """Let the expert label the states that have no label yet."""
        steps = [step for step, _ in self.unlabelled]
        labels = expert.label([state for _, state in self.unlabelled])
        self.labels.update(zip(steps, labels, strict=True))
        self.unlabelled.clear()


def run_policy(
    envs: Sequence[MilestoneEnv],
    spec: EpisodeSpec,
    seeds: Sequence[int],
    policy: PolicyFn,
    *,
    frames: Mapping[int, FrameSink] | None = None,
) -> Iterator[Episode]:
    """Run one episode of a policy for each seed, and yield them as they end. `frames` is by episode number."""

    def choose_actions(running: list[_RunningEpisode]) -> Iterable[Labels]:
        return policy(np.stack([one.observation for one in running]))

    for _, episode in _run_episodes(envs, spec, seeds, choose_actions, frames or {}):
        yield episode


def collect_labels(
    envs: Sequence[MilestoneEnv],
    spec: EpisodeSpec,
    seeds: Sequence[int],
    expert_acts: Sequence[NDArray[np.bool_]],
    policy: PolicyFn,
    expert: Expert,
) -> Iterator[LabelledEpisode]:
    """Run one episode for each seed, and yield them as they end.

    In step t of episode e the expert acts if `expert_acts[e][t]`, otherwise the policy.
    """

    def choose_actions(running: list[_RunningEpisode]) -> Iterable[Labels]:
        return _choose_actions(running, [bool(expert_acts[one.number][one.steps]) for one in running], policy, expert)

    for ended, episode in _run_episodes(envs, spec, seeds, choose_actions, {}):
        ended.label_states(expert)
        labels = ended.env.actions.stack([ended.labels[step] for step in range(episode.steps)])
        yield LabelledEpisode(episode, np.stack(ended.observations), labels)


@dataclass(frozen=True, slots=True)
class ExpertEpisode:
    """The outcome of an expert's episode, the first states that it saw, and what it did in them."""

    episode: Episode
    states: tuple[Any, ...]
    labels: tuple[Labels, ...]


def run_expert(
    env: MilestoneEnv, spec: EpisodeSpec, seed: int, expert: Expert, frames: FrameSink | None = None
) -> ExpertEpisode:
    """Run one episode of the expert. Afterwards the environment is in the state at its end."""
    running = _start_episode(env, spec, 0, seed, frames)
    states: list[Any] = []
    labels: list[Labels] = []
    while True:
        state = env.expert_state()
        [label] = expert.label([state])
        if len(states) < MOST_STATES:
            states.append(state)
            labels.append(label)
        episode = _step(running, spec, label)
        if episode is not None:
            return ExpertEpisode(episode, tuple(states), tuple(labels))


def _run_episodes(
    envs: Sequence[MilestoneEnv],
    spec: EpisodeSpec,
    seeds: Sequence[int],
    choose_actions: Callable[[list[_RunningEpisode]], Iterable[Labels]],
    frames: Mapping[int, FrameSink],
) -> Iterator[tuple[_RunningEpisode, Episode]]:
    """Run one episode for each seed, one in each environment at a time, and yield them as they end."""
    waiting = list(enumerate(seeds))[::-1]
    free = list(envs)[::-1]
    running: list[_RunningEpisode] = []
    while waiting or running:
        while waiting and free:
            number, seed = waiting.pop()
            running.append(_start_episode(free.pop(), spec, number, seed, frames.get(number)))
        continuing = []
        for one, action in zip(running, choose_actions(running), strict=True):
            episode = _step(one, spec, action)
            if episode is None:
                continuing.append(one)
            else:
                free.append(one.env)
                yield one, episode
        running = continuing


def _start_episode(
    env: MilestoneEnv, spec: EpisodeSpec, number: int, seed: int, frames: FrameSink | None
) -> _RunningEpisode:
    running = _RunningEpisode(env, number, env.reset(seed, spec.start_state), frames)
    if frames is not None:
        frames.record(env)
    return running


def _choose_actions(
    running: list[_RunningEpisode], by_expert: list[bool], policy: PolicyFn, expert: Expert
) -> list[Labels]:
    """Return the action of each episode, and store its observation. States in which the policy acts are labelled later.

    Labels that no step waits for are requested together, because each request costs time.
    """
    actions: dict[int, Labels] = {}
    of_expert = [i for i, acts in enumerate(by_expert) if acts]
    if of_expert:
        labels = expert.label([running[i].env.expert_state() for i in of_expert])
        for i, label in zip(of_expert, labels, strict=True):
            actions[i] = running[i].labels[running[i].steps] = label
    of_policy = [i for i, acts in enumerate(by_expert) if not acts]
    if of_policy:
        chosen = policy(np.stack([running[i].observation for i in of_policy]))
        actions.update(zip(of_policy, chosen, strict=True))
    for i in of_policy:
        running[i].unlabelled.append((running[i].steps, running[i].env.expert_state()))
        if len(running[i].unlabelled) >= _MAX_UNLABELLED:
            running[i].label_states(expert)
    for one in running:
        one.observations.append(one.observation)
    return [actions[i] for i in range(len(running))]


def _step(running: _RunningEpisode, spec: EpisodeSpec, action: Labels) -> Episode | None:
    """Do one step. Return the outcome if the episode is over; a milestone reached in the last step counts."""
    running.observation, is_over, reached = running.env.step(action)
    running.steps += 1
    if running.frames is not None:
        running.frames.record(running.env)
    success = spec.milestone_id in reached
    if success or is_over or running.steps >= spec.max_steps:
        return Episode(running.number, success, running.steps)
    return None


@dataclass(frozen=True, slots=True)
class EpisodeStatistics:
    """Statistics of several episodes."""

    success_rate: float
    mean_steps: float | None  #: over the successes; None if no episode succeeded
    std_steps: float | None

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> EpisodeStatistics:
        """Return the statistics of episodes."""
        steps = np.array([episode.steps for episode in episodes if episode.success], np.float64)
        if not len(steps):
            return cls(0.0, None, None)
        return cls(len(steps) / len(episodes), float(steps.mean()), float(steps.std()))

    def is_better_than(self, other: EpisodeStatistics | None) -> bool:
        """Return whether the success rate is higher, or equal with fewer steps. Everything is better than None."""
        if other is None or self.success_rate != other.success_rate:
            return other is None or self.success_rate > other.success_rate
        return self.mean_steps is not None and (other.mean_steps is None or self.mean_steps < other.mean_steps)
