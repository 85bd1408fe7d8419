"""Stable-Baselines3's PPO with VecNormalize on the same environment, in one process.

`python -m benchmarks.learning.sb3_in_process` prints one JSON line per batch and ends when its standard input closes.
The hyperparameters are Hotlap's defaults, read from the settings.
"""

from __future__ import annotations

import argparse
import json

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from benchmarks.lib.sb3_vec_env import AgentsVecEnv
from schemas.model import LOG_STD_START
from schemas.process.lifeline import end_with_parent
from schemas.settings.models import AgentSettings, TrainerSettings
from trainer.envs.racing.simulation import RacingSimulation


class RacingVecEnv(AgentsVecEnv):
    """The racing environment for Stable-Baselines3, with the original rewards."""

    def __init__(self, simulation: RacingSimulation) -> None:
        self.simulation = simulation
        self.rewards: list[float] = []  #: mean over the agents, one per step
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (simulation.OBSERVATION_SIZE,), np.float32)
        action_space = gymnasium.spaces.Box(simulation.ACTION_LOW, simulation.ACTION_HIGH, dtype=np.float32)
        super().__init__(simulation.n_agents, observation_space, action_space)

    def reset(self) -> VecEnvObs:
        """Start a new episode of all agents."""
        return self.simulation.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step; if an episode ended, the infos contain its true last observation."""
        step = self.simulation.step(self._actions)
        self.rewards.append(float(step.reward.mean(dtype=np.float64)))
        return self.returned(step)


class BatchReporter(BaseCallback):
    """Prints each batch's reward per step, and ends the training after the batch that follows the last update."""

    def __init__(self, env: RacingVecEnv, *, steps: int, batches: int) -> None:
        super().__init__()
        self._env, self._steps, self._left = env, steps, batches

    def _on_step(self) -> bool:
        if len(self._env.rewards) == self._steps:
            print(json.dumps({"reward_per_step": float(np.mean(self._env.rewards))}), flush=True)
            self._env.rewards.clear()
            self._left -= 1
        return self._left > 0


def make_ppo(
    env: VecEnv,
    *,
    steps: int,
    seed: int,
    batch_size: int | None = None,
    epochs: int | None = None,
    device: str = "cpu",
) -> PPO:
    """Return PPO with Hotlap's hyperparameters and two separate networks of the same hidden sizes."""
    s, hidden = TrainerSettings(), list(AgentSettings().hidden_sizes)
    model = PPO(
        "MlpPolicy",
        VecNormalize(env, gamma=s.gamma),
        n_steps=steps,
        batch_size=batch_size or s.batch_size,
        n_epochs=epochs or s.epochs,
        learning_rate=s.learning_rate,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        clip_range=s.clip_range,
        ent_coef=s.entropy_coef,
        vf_coef=s.value_coef,
        max_grad_norm=s.max_grad_norm,
        seed=seed,
        device=device,
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": hidden},
            "activation_fn": torch.nn.ReLU,
            "log_std_init": LOG_STD_START,
        },
    )
    model.set_logger(Logger(folder=None, output_formats=[]))  # the default one creates a folder
    return model


def main() -> int:
    """Train, and print each batch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.sb3_in_process", description=__doc__)
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="steps per update, of all agents together")
    parser.add_argument("--cycles", type=int, required=True, help="updates; one more batch is collected after the last")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--observation-scale", type=float, default=1.0)
    parser.add_argument("--observation-shift", type=float, default=0.0)
    arguments = parser.parse_args()
    steps, remainder = divmod(arguments.batch, arguments.agents)
    if remainder:
        parser.error(f"a batch of {arguments.batch} steps cannot be shared by {arguments.agents} agents")
    end_with_parent()
    torch.set_num_threads(1)
    factor, shift = arguments.observation_scale, arguments.observation_shift
    simulation = RacingSimulation(
        arguments.agents, seed=arguments.seed, observation_scale=factor, observation_shift=shift
    )
    env = RacingVecEnv(simulation)
    reporter = BatchReporter(env, steps=steps, batches=arguments.cycles + 1)
    make_ppo(env, steps=steps, seed=arguments.seed).learn(arguments.batch * (arguments.cycles + 1), callback=reporter)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
