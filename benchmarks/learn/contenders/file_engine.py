"""An engine for any environment: runs a model JSON, and writes real rollout files of version 1 or 2."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learn.environments.recorded import RecordedEnv
from schemas.contract import ContinuousActions, DiscreteActions
from schemas.model import Model
from trainer.envs.vec_env import Float32, Step
from trainer.simulate.rollout_file import (
    ExportedRollout,
    encode_text,
    rollout_name,
    version_1,
    version_2,
    write_whole,
)

CHOICE = "choice"  #: name of a discrete action in version 1
_FIRST_FILE = datetime(2026, 1, 1, tzinfo=UTC)  #: names and timestamps are equal in equal runs


class FileEngine:
    """Acts as an engine does: samples, clamps, records the density of the clamped action."""

    def __init__(self, env: RecordedEnv, exports: Path, *, form: str, steps: int, seed: int) -> None:
        self._env, self._exports, self._form = env, exports, form
        self._steps = steps // env.n_agents
        self._rng = np.random.default_rng([seed, 1])
        self._observation_NO = env.reset()
        self._files = 0

    def write_rollout(self, model: Model) -> Path:
        """Run the model until a rollout is complete; return its file."""
        rows: list[tuple[Any, ...]] = []
        step: Step | None = None
        for _ in range(self._steps):
            observation_NO = self._observation_NO
            action_NA, log_prob_N = sample(model, observation_NO, self._rng)
            step = self._env.step(action_NA)
            value_N = model.value(observation_NO)
            rows.append((observation_NO, action_NA, step.reward, step.terminated, step.truncated, log_prob_N, value_N))
            self._observation_NO = step.observation
        assert step is not None
        return self._write(rows, step.next_observation, model.policy_version)

    def _write(self, rows: list[tuple[Any, ...]], final_observations: Float32, policy_version: int) -> Path:
        observations, actions, rewards, terminated, truncated, log_probs, values = map(
            np.concatenate, zip(*rows, strict=True)
        )
        space = self._env.contract.action_space
        is_continuous = isinstance(space, ContinuousActions)
        rollout = ExportedRollout(
            observations=observations,
            actions=actions,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            log_probs=log_probs,
            values=values,
            agents=np.tile(np.arange(self._env.n_agents, dtype=np.int32), len(rows)),
            action_names=space.names if isinstance(space, ContinuousActions) else (CHOICE,),
            action_low=space.low if isinstance(space, ContinuousActions) else (),
            action_high=space.high if isinstance(space, ContinuousActions) else (),
            final_observations=final_observations,
            policy_version=policy_version,
        )
        now = _FIRST_FILE + timedelta(seconds=self._files)
        path = self._exports / rollout_name(self._files, now)
        if self._form == "v1":
            text = version_1(rollout, now)
        else:
            text = version_2(rollout, path.stem, as_base64=True)
            text = text if is_continuous else _as_choices(text, space, actions)
        write_whole(path, encode_text(text))
        self._files += 1
        return path


def _as_choices(text: str, space: Any, actions: NDArray[Any]) -> str:
    """Return a file of version 2 with whole numbers as actions."""
    assert isinstance(space, DiscreteActions)
    document = json.loads(text)
    document["action_space"] = {"type": "discrete", "n": space.n}
    document["actions"] = actions[:, 0].astype(int).tolist()
    return json.dumps(document)


def sample(model: Model, observation_NO: Float32, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """Return random actions [n, A], or choices [n, 1], and their log_probs [n] as an engine records them."""
    output_NK = model.mean(observation_NO).astype(np.float64)
    space = model.contract.action_space
    if isinstance(space, ContinuousActions):
        std_A = np.exp(model.action_log_std.astype(np.float64))
        action_NA = np.clip(rng.normal(output_NK, std_A), space.low, space.high).astype(np.float32)
        density_NA = -0.5 * ((action_NA - output_NK) / std_A) ** 2 - np.log(std_A) - 0.5 * math.log(2.0 * math.pi)
        return action_NA, density_NA.sum(axis=1).astype(np.float32)
    log_p_NK = output_NK - output_NK.max(axis=1, keepdims=True)
    log_p_NK -= np.log(np.exp(log_p_NK).sum(axis=1, keepdims=True))
    choice_N = (log_p_NK + rng.gumbel(size=log_p_NK.shape)).argmax(axis=1)  # Gumbel 1954: distributed as the softmax
    return choice_N[:, None].astype(np.float32), log_p_NK[np.arange(len(choice_N)), choice_N].astype(np.float32)


def best(model: Model, observation_NO: Float32) -> Float32:
    """Return the mean actions within their bounds, or the most probable choices [n, 1]."""
    output_NK = model.mean(observation_NO)
    space = model.contract.action_space
    if isinstance(space, ContinuousActions):
        return np.asarray(np.clip(output_NK, space.low, space.high), np.float32)
    return np.asarray(output_NK.argmax(axis=1)[:, None], np.float32)
