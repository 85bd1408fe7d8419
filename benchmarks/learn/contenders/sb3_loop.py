"""Algorithms of Stable-Baselines3 and sb3-contrib in one process, and TD3 with its policy exchanged once per cycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from benchmarks.learn.contenders import zoo
from benchmarks.learn.contenders.outcome import Session
from benchmarks.learn.contenders.sb3_env import RecordedVecEnv
from benchmarks.learn.contenders.zoo import Hyperparameters
from benchmarks.learn.runs import Run
from trainer.envs.vec_env import Float32

TABLES = {"sb3-ppo": zoo.PPO, "sb3-sac": zoo.SAC, "sb3-td3": zoo.TD3, "crossq": zoo.CROSSQ}


def hyperparameters(run: Run) -> Hyperparameters:
    """Return the hyperparameters of a run, with batches that are at most a cycle."""
    batch = run.sizes.batch
    if run.contender == "sb3-td3-files":
        bridge: dict[str, Any] = {
            "train_freq": (batch // run.sizes.agents, "step"),
            "gradient_steps": int(zoo.BRIDGE_GRADIENT_STEPS * batch),
            "learning_starts": batch - run.sizes.agents,
            "policy_kwargs": zoo.BRIDGE_NETWORKS,
        }
        return Hyperparameters(bridge, run.sizes.agents, noise_std=zoo.BRIDGE_NOISE_STD)
    found = TABLES[run.contender][run.environment]
    arguments = dict(found.arguments)
    if run.contender == "sb3-ppo" and found.agents * arguments["n_steps"] > batch:
        return replace(found, arguments=arguments | {"n_steps": batch // run.sizes.agents}, agents=run.sizes.agents)
    if arguments.get("learning_starts", 0) > batch:
        arguments["learning_starts"] = batch
    return replace(found, arguments=arguments)


def algorithm(contender: str) -> type[BaseAlgorithm]:
    """Return the class of a contender's algorithm."""
    if contender == "crossq":
        from sb3_contrib import CrossQ  # here, because the others do not need it

        crossq: type[BaseAlgorithm] = CrossQ
        return crossq
    others: dict[str, type[BaseAlgorithm]] = {"sb3-ppo": PPO, "sb3-sac": SAC}
    return others.get(contender, TD3)


def run_sb3(session: Session, chosen: Hyperparameters) -> None:
    """Train until all cycles are recorded."""
    run = session.run
    env = RecordedVecEnv(session.env, session.environment.action_scale)
    arguments = dict(chosen.arguments)
    wrapped: VecEnv = VecNormalize(env, gamma=arguments.get("gamma", 0.99)) if chosen.normalise else env
    rate = arguments.get("learning_rate")
    if isinstance(rate, str):
        arguments["learning_rate"] = _linear(float(rate.removeprefix("linear ")))
    if chosen.noise_std:
        arguments["action_noise"] = _noise(chosen, env)
    model = algorithm(run.contender)("MlpPolicy", wrapped, seed=run.trainer_seed, device="cpu", **arguments)
    model.set_logger(Logger(folder=None, output_formats=[]))  # the default one creates a folder
    watcher = _CycleWatcher(session, env)
    model.learn(run.cycles * run.sizes.batch, callback=watcher)
    session.after_training(watcher.policy)


class _CycleWatcher(BaseCallback):
    """Evaluates the policy after each cycle, and ends the training after the last one.

    If a cycle's last step ends an algorithm's batch, the algorithm trains before the evaluation.
    """

    def __init__(self, session: Session, env: RecordedVecEnv) -> None:
        super().__init__()
        self._session, self._env = session, env
        self._cycles = 0  #: recorded before this step

    def _on_rollout_start(self) -> None:
        self._session.after_training(self.policy)

    def _on_step(self) -> bool:
        if self._cycles == len(self._session.env.cycles):
            self._session.after_training(self.policy)
            return not self._session.env.is_finished
        self._cycles = len(self._session.env.cycles)
        return True

    def policy(self, observation_NO: Float32) -> Float32:
        """Return the actions without noise."""
        wrapper = self.model.get_vec_normalize_env()
        normalised: Any = observation_NO if wrapper is None else wrapper.normalize_obs(observation_NO)
        actions, _ = self.model.predict(normalised, deterministic=True)
        return np.asarray(self._env.in_policy_units(actions), np.float32)


def _linear(first: float) -> Callable[[float], float]:
    """Return a schedule from `first` to 0 over the run."""
    return lambda left: left * first


def _noise(chosen: Hyperparameters, env: RecordedVecEnv) -> ActionNoise:
    size = env.action_space.shape or ()
    mean, std = np.zeros(size), np.full(size, chosen.noise_std)
    noise: ActionNoise = NormalActionNoise(mean, std)
    if chosen.noise_is_ou:
        noise = OrnsteinUhlenbeckActionNoise(mean, std)
    return VectorizedActionNoise(noise, env.num_envs) if env.num_envs > 1 else noise
