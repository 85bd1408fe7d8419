"""The loop of an engine: load the newest model, drive all agents with it, write a rollout, check for a newer model.

This engine and the daemon share two folders and nothing else:

    Saved/Training/Models/best_model_path.txt    the path of the model to run; read between two rollouts
    Saved/Training/Exports/                      the rollouts

Each rollout comes from one model. With a seed, everything except file names and timestamps repeats, if the models
change at the same rollouts; `pause_while_training` makes sure of that.
"""

from __future__ import annotations

import json
import math
import sys
import time
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import engine_path, error_text, for_system
from trainer.envs.racing.simulation import RacingSimulation
from trainer.simulate.model_file import EngineModel, Floats32, ModelFileError, load_model, random_model, read_pointer
from trainer.simulate.options import SimulationOptions
from trainer.simulate.rollout_file import (
    ExportedRollout,
    encode_text,
    next_index,
    rollout_name,
    version_1,
    version_2,
    write_slowly,
    write_whole,
)

HIDDEN = (128, 128)  #: layers of the engine's own random weights
NOISE_STD_MIN = 0.01  #: lowest factor on the standard deviation
POLL_S = 0.05  #: seconds between two checks of the stop flag, and of the pointer file while waiting
TIMEOUT_S = 2.0  #: seconds of waiting before the engine prints what it waits for


class EngineStep(NamedTuple):
    """One step of all n agents."""

    observation: Floats32  #: [n, O]
    action: Floats32  #: [n, A]
    log_prob: Floats32  #: [n]
    value: Floats32  #: [n]
    reward: Floats32  #: [n]
    terminated: NDArray[np.bool_]  #: [n]
    truncated: NDArray[np.bool_]  #: [n]
    reward_parts: dict[str, Floats32]  #: name to [n]
    critic_observation: Floats32 | None  #: [n, P]


class Engine:
    """One simulated engine. `stop()` may be called from a signal handler or another thread."""

    def __init__(self, options: SimulationOptions) -> None:
        self.options = options
        paths = ProjectPaths(options.project.absolute())
        self.pointer = paths.pointer
        self.exports = paths.exports
        self.simulation = RacingSimulation(
            options.agents,
            seed=options.seed,
            observation_scale=options.observation_scale,
            observation_shift=options.observation_shift,
            track=options.track,
        )
        self.observation = self.simulation.observe()
        self.rng = np.random.default_rng([options.seed, 1])  # the game has its own random numbers
        self.model: EngineModel | None = None
        if options.own_weights:
            self.model = random_model((self.inputs, *HIDDEN, self.outputs), np.random.default_rng([options.seed, 2]))
        self.rollouts = self.experiences = 0  #: written so far
        self.reward_per_step = math.nan  #: of the last rollout
        self._loaded_path: str | None = None  #: content of the pointer file at the last load
        self._last_warning = ""
        self._step_due_s = 0.0  #: on the monotonic clock
        self._stopping = False

    inputs, outputs = RacingSimulation.OBSERVATION_SIZE, len(RacingSimulation.ACTION_NAMES)

    def stop(self) -> None:
        """Stop after the current step; a rollout that is not complete is not written."""
        self._stopping = True

    def run(self) -> None:
        """Run until stopped, or until `options.rollouts` rollouts are written."""
        self.exports.mkdir(parents=True, exist_ok=True)
        index = next_index(self.exports)
        if self.model is None:
            self._wait_for_model("a first model")
        every = self.options.pause_while_training
        while not self._stopping:
            if not every:
                self._load_new_model()
            if (collected := self._collect_rollout()) is None:
                break
            self._write(*collected, index=index)
            index += 1
            if self.rollouts == self.options.rollouts:
                break
            if every and self.rollouts % every == 0:
                self._wait_for_model("another model")

    # --- loading models -----------------------------------------------------------------------------

    def _wait_for_model(self, expected: str) -> None:
        """Wait until the pointer file names another model than before, and one is loaded."""
        report_at_s = time.monotonic() + TIMEOUT_S
        while not self._stopping:
            if self._load_new_model() and self.model is not None:
                return
            if time.monotonic() >= report_at_s:
                self.print_line(
                    f"waiting for {expected} in {engine_path(self.pointer)}; "
                    "is the daemon running with the same --project?"
                )
                report_at_s = math.inf
            time.sleep(POLL_S)

    def _load_new_model(self) -> bool:
        """Load the model that the pointer file names, if it is another one; return whether it is.

        If it cannot be run, the engine keeps the old weights.
        """
        try:
            path = read_pointer(self.pointer)
            if path is None or path == self._loaded_path:
                return False
            model = load_model(for_system(self.options.project / path))
            self._check_shape(model)
        except OSError as error:
            self._warn(f"cannot read the newest model, trying again: {error_text(error)}")
            return False
        except ModelFileError as error:
            self._warn(f"keeping the old weights: {path} cannot be run: {error}")
            self._loaded_path = path
            return True
        self._loaded_path = path
        if self.options.own_weights and model.policy_version == 0:
            return False
        self.model = model
        return True

    def _check_shape(self, model: EngineModel) -> None:
        """Raise ModelFileError if a model does not fit the game, or has other layers than the running one."""
        sizes = model.sizes
        if (sizes[0], sizes[-1]) != (self.inputs, self.outputs):
            raise ModelFileError(
                f"it has {sizes[0]} observations and {sizes[-1]} actions,"
                f" this game has {self.inputs} and {self.outputs}"
            )
        if self.model is not None and sizes != self.model.sizes:
            raise ModelFileError(f"its layers have the sizes {sizes}, this engine runs {self.model.sizes}")

    # --- writing rollouts ---------------------------------------------------------------------------

    def _collect_rollout(self) -> tuple[ExportedRollout, int] | None:
        """Return one rollout and how many episodes ended in it; None if stopped before it was complete."""
        assert self.model is not None
        steps: list[EngineStep] = []
        for _ in range(-(-self.options.experiences // self.options.agents)):
            self._keep_pace()
            if self._stopping:
                return None
            experience, successor = self._step(self.model)
            steps.append(experience)
        rollout = self._gather(steps, final_observations=successor)
        return rollout, int((rollout.terminated | rollout.truncated).sum())

    def _step(self, model: EngineModel) -> tuple[EngineStep, Floats32]:
        """Return one step of all agents, and their observations after it.

        a ~ Normal(mean, exp(log_std) * max(noise_std, 0.01)), clamped; log_prob is that of the clamped action.
        """
        observation = self.observation
        critic_observation = self.simulation.critic_observe() if self.options.critic_observations else None
        mean = model.mean(observation).astype(np.float64)
        std = np.exp(model.action_log_std.astype(np.float64)) * max(self.options.noise_std, NOISE_STD_MIN)
        action = np.clip(self.rng.normal(mean, std), self.simulation.ACTION_LOW, self.simulation.ACTION_HIGH).astype(
            np.float32
        )
        log_prob = -0.5 * ((action - mean) / std) ** 2 - np.log(std) - 0.5 * math.log(2.0 * math.pi)
        step = self.simulation.step(action)
        self.observation = step.observation
        experience = EngineStep(
            observation,
            action,
            log_prob.sum(axis=1).astype(np.float32),
            model.value(observation),
            step.reward,
            step.terminated,
            step.truncated,
            step.reward_parts,
            critic_observation,
        )
        return experience, step.next_observation

    def _gather(self, steps: list[EngineStep], *, final_observations: Floats32) -> ExportedRollout:
        """Return all steps as columns, agents interleaved."""
        assert self.model is not None
        critic = [s.critic_observation for s in steps if s.critic_observation is not None]
        return ExportedRollout(
            observations=np.concatenate([s.observation for s in steps]),
            actions=np.concatenate([s.action for s in steps]),
            rewards=np.concatenate([s.reward for s in steps]),
            terminated=np.concatenate([s.terminated for s in steps]),
            truncated=np.concatenate([s.truncated for s in steps]),
            log_probs=np.concatenate([s.log_prob for s in steps]),
            values=np.concatenate([s.value for s in steps]),
            agents=np.tile(np.arange(self.options.agents, dtype=np.int32), len(steps)),
            action_names=self.simulation.ACTION_NAMES,
            action_low=tuple(self.simulation.ACTION_LOW.tolist()),
            action_high=tuple(self.simulation.ACTION_HIGH.tolist()),
            final_observations=final_observations,
            reward_parts={k: np.concatenate([s.reward_parts[k] for s in steps]) for k in steps[0].reward_parts},
            critic_observations=np.concatenate(critic) if critic else None,
            final_critic_observations=self._final_critic_observations(steps[-1]) if critic else None,
            policy_version=self.model.policy_version,
            noise_std=self.options.noise_std,
        )

    def _final_critic_observations(self, last: EngineStep) -> Floats32:
        """Return what critics see after the last step; NaN for agents that have started another episode."""
        ended = (last.terminated | last.truncated)[:, None]
        return np.where(ended, np.float32(np.nan), self.simulation.critic_observe())

    def _write(self, rollout: ExportedRollout, episodes: int, *, index: int) -> None:
        """Write one rollout to Exports and report it."""
        o = self.options
        count = len(rollout.rewards)
        self.reward_per_step = float(rollout.rewards.mean(dtype=np.float64))
        self._insert_nans(rollout)
        now = datetime.now().astimezone()
        path = self.exports / rollout_name(index, now)
        if o.format == "v1":
            text = version_1(rollout, now)
        else:
            text = version_2(rollout, path.stem, as_base64=o.format == "v2-base64")
        data = encode_text(text, utf16=o.utf16)
        if o.slow:
            write_slowly(path, data, seconds=o.slow, should_hurry=lambda: self._stopping)
        else:
            write_whole(path, data)
        self.rollouts += 1
        self.experiences += count
        self._report(path.name, count, episodes)

    def _insert_nans(self, rollout: ExportedRollout) -> None:
        """Write `nan` into every `nan_every`-th experience, as a game with a bug does."""
        if not self.options.nan_every:
            return
        number = self.experiences + np.arange(len(rollout.rewards))
        rows = np.flatnonzero(number % self.options.nan_every == self.options.nan_every - 1)
        for k, column in enumerate((rollout.rewards, rollout.values, rollout.observations[:, 0])):
            column[rows[k::3]] = np.nan

    def _keep_pace(self) -> None:
        """Sleep until the next step is due."""
        limit = self.options.steps_per_second
        if not limit:
            return
        while not self._stopping and (left := self._step_due_s - time.monotonic()) > 0.0:
            time.sleep(min(left, POLL_S))
        self._step_due_s = max(self._step_due_s, time.monotonic() - 1.0) + self.options.agents / limit

    # --- messages -----------------------------------------------------------------------------------

    def print_line(self, message: str) -> None:
        """Print one line to stdout, or to stderr if JSON lines are written to stdout."""
        print(message, file=sys.stderr if self.options.as_json else sys.stdout, flush=True)

    def _warn(self, message: str) -> None:
        """Print one line to stderr, unless it is the same as the last one."""
        if message != self._last_warning:
            print(f"warning: {message}", file=sys.stderr, flush=True)
        self._last_warning = message

    def _report(self, name: str, count: int, episodes: int) -> None:
        version = None if self.model is None else self.model.policy_version
        if self.options.as_json:
            report = {
                "rollout": name,
                "reward_per_step": self.reward_per_step,
                "policy_version": version,
                "steps": count,
                "episodes": episodes,
            }
            print(json.dumps(report), flush=True)
        elif not self.options.quiet:
            model_name = "own weights" if self._loaded_path is None and version is None else f"model {version}"
            reward = f"reward per step {self.reward_per_step:.3f}"
            print(f"{name}  {reward}  {model_name}  {episodes} episodes ended  {count} steps", flush=True)
