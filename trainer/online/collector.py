"""Collects experiences: an actor acts in an environment for some steps."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch

from schemas.errors import HotlapError
from schemas.rollout.rollout import narrowed
from trainer.envs.vec_env import Float32, Observations, RepeatableVecEnv, Step, VecEnv
from trainer.online.actor import Actor
from trainer.rollouts.experiences import Experiences


class Collector:
    """Collects batches one after the other; episodes continue from one batch to the next."""

    def __init__(self, env: VecEnv, seed: int, *, saved: dict[str, Any] | None = None) -> None:
        """Start all episodes from `seed`, or continue those that `state` returned. Raises HotlapError, ValueError."""
        self._env = env
        if saved is None:
            self._observation_NO = require_finite(env.reset(seed), "observations")
            self._return_N = np.zeros(env.n_agents)
            self._length_N = np.zeros(env.n_agents, np.int64)
            self._has_ended_N = np.zeros(env.n_agents, np.bool_)
        else:
            self._observation_NO = _continued(env, saved)
            self._return_N, self._length_N = saved["returns"].numpy().copy(), saved["lengths"].numpy().copy()
            self._has_ended_N = saved["has_ended"].numpy().copy()
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0
        self.episodes: list[tuple[float, int]] = []  #: return and length of ended episodes; readers empty it

    def collect(self, actor: Actor, n_steps: int, rng: np.random.Generator) -> Experiences:
        """Take `n_steps` steps with every agent and return them. Raises HotlapError (E_ENV_NAN)."""
        env, n = self._env, self._env.n_agents
        columns = _Columns(n, n_steps, self._observation_NO, env.contract.action_space.width)
        finals: list[Observations] = []
        for t in range(n_steps):
            action_NA = actor.sample(self._observation_NO, rng)
            columns.write_before(t, self._observation_NO, action_NA)  # the step may change the arrays
            step = env.step(action_NA)
            check_step(step)
            columns.write_after(t, step)
            cut_N = step.truncated if t < n_steps - 1 else ~step.terminated
            agents = np.flatnonzero(cut_N)
            columns.final_NT[agents, t] = len(finals) + np.arange(len(agents))
            finals.extend(step.next_observation[agents])
            self._observation_NO = step.observation
            self._update_statistics(step)
        return columns.experiences(finals)

    def _update_statistics(self, step: Step) -> None:
        self._return_N += step.reward
        self._length_N += 1
        self._steps += len(self._return_N)
        for name, part_N in step.reward_parts.items():
            self._sums[name] += float(part_N.sum())
        ended = np.flatnonzero(step.terminated | step.truncated)
        self.episodes += zip(self._return_N[ended].tolist(), self._length_N[ended].tolist(), strict=True)
        self._return_N[ended] = 0.0
        self._length_N[ended] = 0
        self._has_ended_N[ended] = True

    @property
    def longest_open(self) -> int:
        """Return the number of steps of the longest episode that is not over."""
        return int(self._length_N.max())

    def may_restart(self) -> bool:
        """Return whether each agent has ended an episode since the first step of this collector."""
        return bool(self._has_ended_N.all())

    def state(self) -> dict[str, Any]:
        """Return tensors from which another collector continues the episodes; empty if the environment cannot."""
        if not isinstance(self._env, RepeatableVecEnv):
            return {}
        return {
            "env": torch.frombuffer(bytearray(self._env.save_episodes()), dtype=torch.uint8),
            "observations": torch.from_numpy(self._observation_NO.copy()),
            "returns": torch.from_numpy(self._return_N.copy()),
            "lengths": torch.from_numpy(self._length_N.copy()),
            "has_ended": torch.from_numpy(self._has_ended_N.copy()),
        }

    def pop_reward_part_means(self) -> dict[str, float]:
        """Return the mean of each reward part per step since the last call."""
        means = {name: total / max(1, self._steps) for name, total in self._sums.items()}
        self._sums, self._steps = defaultdict(float), 0
        return means


def _continued(env: VecEnv, saved: dict[str, Any]) -> Observations:
    """Continue the saved episodes and return the observations to act on next. Raises ValueError."""
    if not isinstance(env, RepeatableVecEnv):
        raise ValueError("the environment cannot continue an episode")
    observation_NO = env.load_episodes(saved["env"].numpy().tobytes())
    if not np.array_equal(observation_NO, saved["observations"].numpy()):
        raise ValueError("the same actions lead to other observations")
    return observation_NO


class _Columns:
    """A batch that is being filled: the first axis is the agent, so that it becomes experiences without a copy."""

    def __init__(self, n: int, n_steps: int, observation_NO: Observations, actions: int) -> None:
        dtype = observation_NO.dtype if observation_NO.dtype in (np.float64, np.uint8) else np.dtype(np.float32)
        self.observation_NTO = np.empty((n, n_steps, observation_NO.shape[1]), dtype)
        self.action_NTA = np.empty((n, n_steps, actions), np.float32)
        self.reward_NT = np.empty((n, n_steps), np.float32)
        self.terminated_NT = np.empty((n, n_steps), np.bool_)
        self.truncated_NT = np.empty((n, n_steps), np.bool_)
        self.final_NT = np.full((n, n_steps), -1, np.int64)

    def write_before(self, t: int, observation_NO: Observations, action_NA: Float32) -> None:
        """Store what a step starts from."""
        self.observation_NTO[:, t] = observation_NO
        self.action_NTA[:, t] = action_NA

    def write_after(self, t: int, step: Step) -> None:
        """Store the result of a step."""
        self.reward_NT[:, t] = step.reward
        self.terminated_NT[:, t] = step.terminated
        self.truncated_NT[:, t] = step.truncated

    def experiences(self, finals: list[Observations]) -> Experiences:
        """Return the batch. The last step of each agent has no next row, but a final observation."""
        n, n_steps, width = self.observation_NTO.shape
        has_next_row_NT = ~(self.terminated_NT | self.truncated_NT)
        has_next_row_NT[:, -1] = False
        size = n * n_steps
        has_next_row_B = has_next_row_NT.reshape(size)
        observation_BO = self.observation_NTO.reshape(size, width)
        if observation_BO.dtype != np.uint8:
            observation_BO = narrowed(observation_BO)
        return Experiences(
            observation_BO=observation_BO,
            action_BA=self.action_NTA.reshape(size, -1),
            reward_B=self.reward_NT.reshape(size),
            log_prob_B=np.zeros(size, np.float32),
            terminated_B=self.terminated_NT.reshape(size),
            can_bootstrap_B=np.ones(size, np.bool_),
            has_next_row_B=has_next_row_B,
            trace_continues_B=has_next_row_B,
            final_B=self.final_NT.reshape(size),
            segment_B=np.append(0, np.cumsum(~has_next_row_B)[:-1]).astype(np.int64),
            is_new_B=np.ones(size, np.bool_),
            final_observation_FO=np.array(finals, observation_BO.dtype).reshape(len(finals), width),
            critic_observation_BP=np.zeros((size, 0), np.float32),
            final_critic_observation_FP=np.zeros((len(finals), 0), np.float32),
        )


def check_step(step: Step) -> None:
    """Raise HotlapError (E_ENV_NAN) if a reward or an observation is not finite."""
    require_finite(step.reward[:, None], "rewards")
    require_finite(step.next_observation, "observations")
    if step.observation is not step.next_observation:
        require_finite(step.observation, "observations")


def require_finite(array_NX: Observations, name: str) -> Observations:
    """Return the array, which may have bytes.

    Raises HotlapError (E_ENV_NAN) with the first agent that has a value that is not finite.
    """
    # A sum is not finite if one of its terms is not. Checking each number takes ten times as long.
    if array_NX.dtype != np.uint8 and not np.isfinite(array_NX.sum(dtype=np.float64)):
        agent, column = np.argwhere(~np.isfinite(array_NX))[0].tolist()
        index = f"agent {agent}" + (f", column {column}" if array_NX.shape[1] > 1 else "")
        raise HotlapError(
            f"the environment returned {array_NX[agent, column]} in its {name} ({index})",
            hint="fix the environment; the last checkpoint is intact",
            code="E_ENV_NAN",
        )
    return array_NX
