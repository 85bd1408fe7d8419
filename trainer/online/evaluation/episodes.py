"""Evaluation of a policy: whole episodes in separate environments, without noise, from the same seeds each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.envs.vec_env import VecEnv
from trainer.online.actor import Actor
from trainer.online.collector import check_step, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnStatistics:
    """Statistics of the returns of some episodes."""

    returns: tuple[float, ...]  #: by agent, and for each agent in time; equal seeds have equal places
    steps: int  #: of all these episodes
    parts: dict[str, float]  #: mean of each reward part per step
    cut: int = 0  #: episodes that were ended because they had no end

    @property
    def mean(self) -> float:
        """Return the mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Return the standard deviation of the returns."""
        return float(np.std(self.returns, ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def episodes(self) -> int:
        """Return the number of episodes."""
        return len(self.returns)

    @property
    def length(self) -> float:
        """Return the mean number of steps."""
        return self.steps / len(self.returns)


def pooled(blocks: Sequence[ReturnStatistics]) -> ReturnStatistics:
    """Return the statistics of the episodes of all blocks."""
    steps = sum(block.steps for block in blocks)
    parts = {name: sum(block.parts[name] * block.steps for block in blocks) / steps for name in blocks[0].parts}
    returns = tuple(value for block in blocks for value in block.returns)
    return ReturnStatistics(returns=returns, steps=steps, parts=parts, cut=sum(block.cut for block in blocks))


def evaluate(
    actor: Actor, env: VecEnv, *, episodes: int, seed: int, most_steps: int, stop: Callable[[], bool]
) -> ReturnStatistics | None:
    """Run at least `episodes` episodes, the same number with each agent, and return their statistics.

    To count the first episodes that end would favour short ones. An episode that has not ended after `most_steps` steps
    counts as it is, and its agent's later ones are not waited for. Return None as soon as `stop` returns True. Raises
    HotlapError (E_ENV_NAN).
    """
    each = math.ceil(episodes / env.n_agents)
    observation_NO = require_finite(env.reset(seed), "observations")
    left_N, length_N = np.full(env.n_agents, each), np.zeros(env.n_agents, np.int64)
    return_N = np.zeros(env.n_agents)
    returns: list[list[float]] = [[] for _ in range(env.n_agents)]
    sums: dict[str, float] = {}
    steps = cut = 0
    while left_N.any():
        if stop():
            return None
        step = env.step(actor.best(observation_NO))
        check_step(step)
        counts_N = left_N > 0
        return_N += step.reward
        length_N += 1
        steps += int(counts_N.sum())
        for name, part_N in step.reward_parts.items():
            sums[name] = sums.get(name, 0.0) + float(part_N[counts_N].sum())
        ended_N = step.terminated | step.truncated
        endless_N = ~ended_N & (length_N >= most_steps) & counts_N
        for agent in np.flatnonzero((ended_N | endless_N) & counts_N):
            returns[agent].append(float(return_N[agent]))
        cut += int(endless_N.sum())
        left_N[ended_N & counts_N] -= 1
        left_N[endless_N] = 0
        return_N[ended_N], length_N[ended_N] = 0.0, 0
        observation_NO = step.observation
    return ReturnStatistics(
        returns=tuple(value for of_agent in returns for value in of_agent),
        steps=steps,
        parts={name: total / steps for name, total in sums.items()},
        cut=cut,
    )
