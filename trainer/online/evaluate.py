"""Evaluation of a policy: whole episodes in separate environments, without noise, from the same seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from trainer.envs.vec_env import VecEnv
from trainer.online.actor import Actor
from trainer.online.collector import check_step


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnStatistics:
    """Statistics of the returns of some episodes."""

    mean: float
    std: float
    episodes: int
    length: float  #: mean number of steps
    parts: dict[str, float]  #: mean of each reward part per step

    def lower_bound(self, confidence: float) -> float:
        """Return the one-sided lower confidence bound of the mean, from the normal distribution."""
        return self.mean - NormalDist().inv_cdf(confidence) * self.std / math.sqrt(self.episodes)


def evaluate(actor: Actor, env: VecEnv, *, episodes: int, seed: int) -> ReturnStatistics:
    """Run at least `episodes` episodes, the same number with each agent, and return their statistics.

    To count the first episodes that end would favour short ones. Raises HotlapError (E_ENV_NAN).
    """
    each = math.ceil(episodes / env.n_agents)
    observation_NO = env.reset(seed)
    left_N = np.full(env.n_agents, each)
    return_N = np.zeros(env.n_agents)
    returns: list[float] = []
    sums: dict[str, float] = {}
    steps = 0
    while left_N.any():
        step = env.step(actor.best(observation_NO))
        check_step(step)
        counts_N = left_N > 0
        return_N += step.reward
        steps += int(counts_N.sum())
        for name, part_N in step.reward_parts.items():
            sums[name] = sums.get(name, 0.0) + float(part_N[counts_N].sum())
        ended_N = step.terminated | step.truncated
        returns += return_N[ended_N & counts_N].tolist()
        left_N[ended_N & counts_N] -= 1
        return_N[ended_N] = 0.0
        observation_NO = step.observation
    spread = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    return ReturnStatistics(
        mean=float(np.mean(returns)),
        std=spread,
        episodes=len(returns),
        length=steps / len(returns),
        parts={name: total / steps for name, total in sums.items()},
    )
