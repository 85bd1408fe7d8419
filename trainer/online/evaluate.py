"""What a policy is worth: whole episodes in separate environments, played without noise from the same seeds."""

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
    """The returns of some episodes, in reward units."""

    mean: float
    std: float
    episodes: int
    length: float  #: steps, mean
    parts: dict[str, float]  #: mean of each reward part a step

    def lower_bound(self, confidence: float) -> float:
        """Return the lower bound of the mean, by the normal distribution."""
        return self.mean - NormalDist().inv_cdf(confidence) * self.std / math.sqrt(self.episodes)


def evaluate(actor: Actor, env: VecEnv, *, episodes: int, seed: int) -> ReturnStatistics:
    """Play the same number of episodes with each agent: the first to end would favour short ones."""
    each = math.ceil(episodes / env.n_agents)
    observation_NO = env.reset(seed)
    left_N = np.full(env.n_agents, each)
    now_N = np.zeros(env.n_agents)
    returns: list[float] = []
    sums: dict[str, float] = {}
    steps = 0
    while left_N.any():
        step = env.step(actor.best(observation_NO))
        check_step(step)
        plays_N = left_N > 0
        now_N += step.reward
        steps += int(plays_N.sum())
        for name, part_N in step.reward_parts.items():
            sums[name] = sums.get(name, 0.0) + float(part_N[plays_N].sum())
        ended_N = step.terminated | step.truncated
        returns += now_N[ended_N & plays_N].tolist()
        left_N[ended_N & plays_N] -= 1
        now_N[ended_N] = 0.0
        observation_NO = step.observation
    spread = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    return ReturnStatistics(
        mean=float(np.mean(returns)),
        std=spread,
        episodes=len(returns),
        length=steps / len(returns),
        parts={name: total / steps for name, total in sums.items()},
    )
