"""Playing: an actor in a world for some steps, as the experiences that a cycle learns from."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from schemas.errors import HotlapError
from trainer.envs.vec_env import Step, VecEnv
from trainer.online.actor import Actor
from trainer.rollouts.experiences import Experiences

Float32 = npt.NDArray[np.float32]


class Collector:
    """Keeps where the agents stand between two stretches, and what their unfinished episodes have brought so far."""

    def __init__(self, env: VecEnv, seed: int) -> None:
        self._env = env
        self._observation_NO = require_finite(env.reset(seed), "observations")
        self._return_N = np.zeros(env.n_agents)
        self._length_N = np.zeros(env.n_agents, np.int64)
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0
        self.episodes: list[tuple[float, int]] = []  #: return and length of those that ended; the reader empties it

    def collect(self, actor: Actor, n_steps: int, rng: np.random.Generator) -> Experiences:
        """Take `n_steps` steps with every agent. Raises HotlapError (E_ENV_NAN) where the world gives no numbers."""
        n, world = self._env.n_agents, self._env
        columns = _Columns(n, n_steps, world.contract.observation_size, world.contract.action_space.width)
        finals: list[Float32] = []
        for t in range(n_steps):
            action_NA = actor.sample(self._observation_NO, rng)
            step = world.step(action_NA)
            check_step(step)
            columns.write(t, self._observation_NO, action_NA, step)
            cut_N = step.truncated if t < n_steps - 1 else ~step.terminated
            who = np.flatnonzero(cut_N)
            columns.final_NT[who, t] = len(finals) + np.arange(len(who))
            finals.extend(step.next_observation[who])
            self._observation_NO = step.observation
            self._count(step)
        return columns.experiences(finals)

    def _count(self, step: Step) -> None:
        self._return_N += step.reward
        self._length_N += 1
        self._steps += len(self._return_N)
        for name, part_N in step.reward_parts.items():
            self._sums[name] += float(part_N.sum())
        ended = np.flatnonzero(step.terminated | step.truncated)
        self.episodes += zip(self._return_N[ended].tolist(), self._length_N[ended].tolist(), strict=True)
        self._return_N[ended] = 0.0
        self._length_N[ended] = 0

    def pop_reward_part_means(self) -> dict[str, float]:
        """Return each reward part's mean a step since the last call."""
        means = {name: total / max(1, self._steps) for name, total in self._sums.items()}
        self._sums, self._steps = defaultdict(float), 0
        return means


class _Columns:
    """The stretch while it fills: agent-major, so that it becomes experiences without a copy."""

    def __init__(self, n: int, n_steps: int, observations: int, actions: int) -> None:
        self.observation_NTO = np.empty((n, n_steps, observations), np.float32)
        self.action_NTA = np.empty((n, n_steps, actions), np.float32)
        self.reward_NT = np.empty((n, n_steps), np.float32)
        self.terminated_NT = np.empty((n, n_steps), np.bool_)
        self.truncated_NT = np.empty((n, n_steps), np.bool_)
        self.final_NT = np.full((n, n_steps), -1, np.int64)

    def write(self, t: int, observation_NO: Float32, action_NA: Float32, step: Step) -> None:
        """Keep one step."""
        self.observation_NTO[:, t] = observation_NO
        self.action_NTA[:, t] = action_NA
        self.reward_NT[:, t] = step.reward
        self.terminated_NT[:, t] = step.terminated
        self.truncated_NT[:, t] = step.truncated

    def experiences(self, finals: list[Float32]) -> Experiences:
        """Return the whole. The last step of each agent is cut, and knows where it led to."""
        n, n_steps, width = self.observation_NTO.shape
        linked_NT = ~(self.terminated_NT | self.truncated_NT)
        linked_NT[:, -1] = False
        size = n * n_steps
        has_next_row_B = linked_NT.reshape(size)
        return Experiences(
            observation_BO=self.observation_NTO.reshape(size, width),
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
            final_observation_FO=np.array(finals, np.float32).reshape(len(finals), width),
        )


def check_step(step: Step) -> None:
    """Refuse a step with a number that is none."""
    require_finite(step.reward[:, None], "rewards")
    require_finite(step.next_observation, "observations")


def require_finite(numbers_NX: Float32, what: str) -> Float32:
    """Return the numbers back. Raises HotlapError (E_ENV_NAN), naming the first agent with one that is not finite."""
    # A sum is not finite where one of its terms is not; looking at each number takes ten times as long.
    if not np.isfinite(numbers_NX.sum(dtype=np.float64)):
        agent, column = np.argwhere(~np.isfinite(numbers_NX))[0].tolist()
        where = f"agent {agent}" + (f", column {column}" if numbers_NX.shape[1] > 1 else "")
        value = numbers_NX[agent, column]
        raise HotlapError(
            f"the environment gave {what} that are no numbers: {value} ({where})",
            hint="mend the environment; the last checkpoint is whole",
            code="E_ENV_NAN",
        )
    return numbers_NX
