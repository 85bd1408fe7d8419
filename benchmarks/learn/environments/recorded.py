"""An environment that records rewards, episodes and CPU time by cycle, whoever acts in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.learn.environments.catalogue import Environment, Measure
from trainer.envs.vec_env import Float32, Step, VecEnv

Policy = Callable[[Float32], Float32]
"""Observations [n, O] to actions [n, A] within the contract's bounds, without noise."""
EVALUATION_AGENTS = 4
EVALUATION_STEPS = 250
"""Steps of each agent in an evaluation, if the measure is per step."""
_EVALUATIONS = 10  #: of a run, about, besides those of the last three cycles


@dataclass(frozen=True, slots=True)
class RecordedCycle:
    """What was earned in one cycle, with exploration noise."""

    reward_per_step: float
    mean_return: float | None  #: of the episodes that ended in the cycle; None if no episode ended
    episodes: int

    def score(self, environment: Environment) -> float | None:
        """Return the value in the environment's measure."""
        if environment.measure is Measure.RETURN:
            return self.mean_return
        return self.reward_per_step * (environment.horizon if environment.measure is Measure.FIXED else 1)


class RecordedEnv:
    """A VecEnv that counts the steps of all agents. `batch` of them are a cycle.

    The seed of the run decides how episodes start, and not the one that a learner passes to `reset`.
    """

    def __init__(self, environment: Environment, agents: int, seed: int, *, batch: int, cycles: int) -> None:
        if batch % agents:
            raise ValueError(f"a cycle of {batch} steps cannot be shared by {agents} agents")
        self._env: VecEnv = environment.make(agents, seed)
        self.contract, self.n_agents = self._env.contract, agents
        self._batch, self._cycles, self._seed, self._resets = batch, cycles, seed, 0
        self._return_N = np.zeros(agents)
        self._steps, self._rewards, self._returns = 0, 0.0, list[float]()
        self.cycles: list[RecordedCycle] = []
        self.cpu_s = 0.0  #: of the environment's steps

    @property
    def is_finished(self) -> bool:
        """Return whether all cycles are recorded."""
        return len(self.cycles) >= self._cycles

    def reset(self, seed: int | None = None) -> Float32:
        """Start new episodes."""
        del seed
        self._return_N[:] = 0.0
        self._resets += 1
        return self._env.reset(int(np.random.SeedSequence([self._seed, self._resets]).generate_state(1)[0]))

    def step(self, action: Float32) -> Step:
        """Advance all agents, and record what they earn."""
        began_s = time.process_time()
        step = self._env.step(action)
        self.cpu_s += time.process_time() - began_s
        self._return_N += step.reward
        ended = np.flatnonzero(step.terminated | step.truncated)
        self._returns += self._return_N[ended].tolist()
        self._return_N[ended] = 0.0
        self._rewards += float(step.reward.sum(dtype=np.float64))
        self._steps += self.n_agents
        if self._steps == self._batch:
            self._end_cycle()
        return step

    def _end_cycle(self) -> None:
        if not self.is_finished:
            mean_return = float(np.mean(self._returns)) if self._returns else None
            self.cycles.append(RecordedCycle(self._rewards / self._steps, mean_return, len(self._returns)))
        self._steps, self._rewards, self._returns = 0, 0.0, []

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class MeanEvaluation:
    """Evaluations of policies without noise, in an environment of their own, always from the same starts."""

    def __init__(self, environment: Environment, seed: int, cycles: int) -> None:
        self._environment, self._seed, self._cycles = environment, seed, cycles
        self._env: VecEnv | None = None
        self.cpu_s = 0.0
        self.scores: dict[int, float] = {}  #: number of trained cycles to score

    def evaluate_if_due(self, trained: int, policy: Policy) -> None:
        """Evaluate a policy that was trained for some cycles, if it is one of about ten, or of the last three."""
        every = max(1, self._cycles // _EVALUATIONS)
        if trained in self.scores or (trained % every and trained <= self._cycles - 3):
            return
        began_s = time.process_time()
        self.scores[trained] = self._evaluate(policy)
        self.cpu_s += time.process_time() - began_s

    def _evaluate(self, policy: Policy) -> float:
        environment = self._environment
        if self._env is None:
            self._env = environment.make(EVALUATION_AGENTS, self._seed)
        observation_NO = self._env.reset(int(np.random.SeedSequence([self._seed, 1 << 20]).generate_state(1)[0]))
        is_per_step = environment.measure is Measure.PER_STEP
        first_return_N, is_first_N = np.zeros(EVALUATION_AGENTS), np.ones(EVALUATION_AGENTS, np.bool_)
        total, steps = 0.0, 0
        while steps < EVALUATION_STEPS if is_per_step else is_first_N.any():
            step = self._env.step(policy(observation_NO))
            first_return_N += np.where(is_first_N, step.reward, 0.0)
            total += float(step.reward.mean(dtype=np.float64))
            steps += 1
            is_first_N &= ~(step.terminated | step.truncated)
            observation_NO = step.observation
        return total / steps if is_per_step else float(first_return_N.mean())

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()
