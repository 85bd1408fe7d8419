"""Hyperparameters of RL-Baselines3-Zoo, as numbers.

From https://github.com/DLR-RM/rl-baselines3-zoo, folder hyperparams: ppo.yml and crossq.yml at commit 208b6fd, sac.yml
at 00128b5, td3.yml at a02f4fb. Environments of older versions (LunarLander-v2, Hopper-v4) count as those of today.
Three things differ from the zoo, in favour of its contenders:

- The zoo does not have the racing games. PPO gets the numbers of Hotlap's first comparison there, which are
  Stable-Baselines3's defaults except for the networks and the entropy. The others get their algorithm's defaults, with
  8 agents and as many gradient steps as steps.
- If a batch of the zoo's PPO is larger than a cycle (16,384 steps for LunarLander, 65,536 for BipedalWalker), it has
  one cycle's steps instead: otherwise it would update only a few times in a whole run.
- If the zoo waits for 10,000 steps before an off-policy algorithm learns, that is two of at most 60 cycles here: it
  learns from the end of the first cycle on.

td3.yml of that commit does not have MuJoCo's robots: they get the numbers of the paper (Fujimoto et al. 2018,
arXiv:1802.09477) in Stable-Baselines3's form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The arguments of an algorithm, and how its environments are wrapped."""

    arguments: dict[str, Any] = field(default_factory=dict)  #: of its constructor
    agents: int = 1  #: the zoo's n_envs
    normalise: bool = False  #: VecNormalize, observations and rewards
    noise_std: float = 0.0  #: of normal action noise; 0: none
    noise_is_ou: bool = False  #: Ornstein-Uhlenbeck noise instead of normal noise


def _relu(log_std: float, *sizes: int) -> dict[str, Any]:
    nets = {"pi": list(sizes), "vf": list(sizes)}
    return {"log_std_init": log_std, "ortho_init": False, "activation_fn": nn.ReLU, "net_arch": nets}


_RACING_PPO = Hyperparameters(
    {
        "n_steps": 640, "batch_size": 64, "n_epochs": 10, "learning_rate": 3e-4, "gamma": 0.99, "gae_lambda": 0.95,
        "clip_range": 0.2, "ent_coef": 0.01, "vf_coef": 0.5, "max_grad_norm": 0.5,
        "policy_kwargs": {
            "net_arch": {"pi": [128, 128], "vf": [128, 128]}, "activation_fn": nn.ReLU, "log_std_init": -0.6931,
        },
    },
    agents=8,
    normalise=True,
)  # fmt: skip
_LUNAR_PPO = Hyperparameters(
    {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01}, agents=16
)
PPO: dict[str, Hyperparameters] = {
    "racing": _RACING_PPO,
    "racing-pull": _RACING_PPO,
    "racing-gates": _RACING_PPO,
    "Pendulum-v1": Hyperparameters(
        {
            "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10, "ent_coef": 0.0, "learning_rate": 1e-3,
            "clip_range": 0.2, "use_sde": True, "sde_sample_freq": 4,
        },
        agents=4,
    ),
    "MountainCarContinuous-v0": Hyperparameters(
        {
            "batch_size": 256, "n_steps": 8, "gamma": 0.9999, "learning_rate": 7.77e-05, "ent_coef": 0.00429,
            "clip_range": 0.1, "n_epochs": 10, "gae_lambda": 0.9, "max_grad_norm": 5.0, "vf_coef": 0.19,
            "use_sde": True, "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False},
        },
        normalise=True,
    ),
    "Acrobot-v1": Hyperparameters(
        {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0}, agents=16, normalise=True
    ),
    "LunarLander-v3": _LUNAR_PPO,
    "LunarLanderContinuous-v3": _LUNAR_PPO,
    "BipedalWalker-v3": Hyperparameters(
        {
            "n_steps": 2048, "batch_size": 64, "gae_lambda": 0.95, "gamma": 0.999, "n_epochs": 10, "ent_coef": 0.0,
            "learning_rate": 3e-4, "clip_range": 0.18,
        },
        agents=32,
        normalise=True,
    ),
    "Hopper-v5": Hyperparameters(
        {
            "batch_size": 32, "n_steps": 512, "gamma": 0.999, "learning_rate": 9.80828e-05, "ent_coef": 0.00229519,
            "clip_range": 0.2, "n_epochs": 5, "gae_lambda": 0.99, "max_grad_norm": 0.7, "vf_coef": 0.835671,
            "policy_kwargs": _relu(-2.0, 256, 256),
        },
        normalise=True,
    ),
    "HalfCheetah-v5": Hyperparameters(
        {
            "batch_size": 64, "n_steps": 512, "gamma": 0.98, "learning_rate": 2.0633e-05, "ent_coef": 0.000401762,
            "clip_range": 0.1, "n_epochs": 20, "gae_lambda": 0.92, "max_grad_norm": 0.8, "vf_coef": 0.58096,
            "policy_kwargs": _relu(-2.0, 256, 256),
        },
        normalise=True,
    ),
}  # fmt: skip

_RACING = {"train_freq": 1, "gradient_steps": -1}
_WIDE = {"net_arch": [400, 300]}
SAC: dict[str, Hyperparameters] = {
    "racing": Hyperparameters(_RACING, agents=8),
    "racing-pull": Hyperparameters(_RACING, agents=8),
    "racing-gates": Hyperparameters(_RACING, agents=8),
    "Pendulum-v1": Hyperparameters({"learning_rate": 1e-3}),
    "MountainCarContinuous-v0": Hyperparameters(
        {
            "learning_rate": 3e-4, "buffer_size": 50000, "batch_size": 512, "ent_coef": 0.1, "train_freq": 32,
            "gradient_steps": 32, "gamma": 0.9999, "tau": 0.01, "learning_starts": 0, "use_sde": True,
            "policy_kwargs": {"log_std_init": -3.67, "net_arch": [64, 64]},
        }
    ),
    "LunarLanderContinuous-v3": Hyperparameters(
        {
            "batch_size": 256, "learning_rate": "linear 7.3e-4", "ent_coef": "auto", "gamma": 0.99, "tau": 0.01,
            "train_freq": 1, "gradient_steps": 1, "learning_starts": 10000, "policy_kwargs": _WIDE,
        }
    ),
    "BipedalWalker-v3": Hyperparameters(
        {
            "learning_rate": 7.3e-4, "buffer_size": 300000, "batch_size": 256, "ent_coef": "auto", "gamma": 0.98,
            "tau": 0.02, "train_freq": 64, "gradient_steps": 64, "learning_starts": 10000, "use_sde": True,
            "policy_kwargs": {"log_std_init": -3.0, "net_arch": [400, 300]},
        }
    ),
    "Hopper-v5": Hyperparameters({"learning_starts": 10000}),
    "HalfCheetah-v5": Hyperparameters({"learning_starts": 10000}),
}  # fmt: skip

_EPISODES = Hyperparameters(
    {
        "gamma": 0.98, "buffer_size": 200000, "learning_starts": 10000, "gradient_steps": -1,
        "train_freq": (1, "episode"), "learning_rate": 1e-3, "policy_kwargs": _WIDE,
    },
    noise_std=0.1,
)  # fmt: skip
_ROBOT_TD3 = Hyperparameters(
    {
        "learning_starts": 10000, "train_freq": 1, "gradient_steps": 1, "learning_rate": 1e-3, "batch_size": 256,
        "policy_kwargs": _WIDE,
    },
    noise_std=0.1,
)  # fmt: skip
TD3: dict[str, Hyperparameters] = {
    "racing": Hyperparameters(_RACING, agents=8, noise_std=0.2),
    "racing-pull": Hyperparameters(_RACING, agents=8, noise_std=0.2),
    "racing-gates": Hyperparameters(_RACING, agents=8, noise_std=0.2),
    "Pendulum-v1": _EPISODES,
    "MountainCarContinuous-v0": Hyperparameters(noise_std=0.5, noise_is_ou=True),
    "LunarLanderContinuous-v3": _EPISODES,
    "BipedalWalker-v3": _EPISODES,
    "Hopper-v5": _ROBOT_TD3,
    "HalfCheetah-v5": _ROBOT_TD3,
}

_ROBOT_CROSSQ = Hyperparameters(
    {
        "buffer_size": 1_000_000, "learning_rate": 1e-3, "learning_starts": 5000, "policy_delay": 3,
        "policy_kwargs": {"net_arch": {"pi": [256, 256], "qf": [2048, 2048]}},
    }
)  # fmt: skip
CROSSQ: dict[str, Hyperparameters] = {
    "racing": Hyperparameters(_RACING, agents=8),
    "racing-pull": Hyperparameters(_RACING, agents=8),
    "racing-gates": Hyperparameters(_RACING, agents=8),
    "Pendulum-v1": Hyperparameters({"policy_delay": 2, "policy_kwargs": {"net_arch": [256, 256]}}),
    "MountainCarContinuous-v0": Hyperparameters(
        {
            "learning_rate": 7e-4, "buffer_size": 50000, "train_freq": 32, "gradient_steps": 32, "gamma": 0.9999,
            "learning_starts": 100, "use_sde": True, "policy_delay": 2,
            "policy_kwargs": {"use_expln": True, "log_std_init": -1.0, "net_arch": [64, 64]},
        }
    ),
    "LunarLanderContinuous-v3": Hyperparameters({"buffer_size": 1_000_000, "learning_starts": 10000}),
    "BipedalWalker-v3": Hyperparameters(
        {
            "buffer_size": 300000, "gamma": 0.98, "learning_starts": 10000,
            "policy_kwargs": {"net_arch": {"pi": [256, 256], "qf": [1024, 1024]}},
        }
    ),
    "Hopper-v5": _ROBOT_CROSSQ,
    "HalfCheetah-v5": _ROBOT_CROSSQ,
}  # fmt: skip

BRIDGE_NOISE_STD = 0.2
BRIDGE_GRADIENT_STEPS = 0.5  #: per step of the environment
BRIDGE_NETWORKS = {"net_arch": {"pi": [128, 128], "qf": [256, 256]}, "activation_fn": torch.nn.ReLU}
"""TD3 whose policy is exchanged once per cycle: the same numbers in every environment, as a file bridge has them."""
