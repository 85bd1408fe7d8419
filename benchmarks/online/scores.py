"""Scores of online training in CartPole and Pendulum, compared with Stable-Baselines3's PPO: same steps and seeds.

Both keep the best policy of regular evaluations, as the config defines. The score is that policy's mean return over new
episodes, the same ones for both, deterministic. Stable-Baselines3 has the hyperparameters of its own zoo.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib.host_info import describe, in_words

ROOT = Path(__file__).resolve().parents[2]
EPISODES, EPISODE_SEED = 100, 10_000
SOLVED = 475.0  #: CartPole-v1 counts as solved, according to Gymnasium

Act = Callable[[NDArray[np.float32]], NDArray[Any]]
"""A function from observations [n, O] to actions [n] or [n, A]."""


@dataclass(frozen=True, slots=True)
class Game:
    """An environment and the settings of both trainers."""

    config: str
    zoo: dict[str, Any]  #: Stable-Baselines3's arguments
    zoo_envs: int


GAMES = {
    "CartPole-v1": Game(
        "cartpole.toml",
        {
            "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "ent_coef": 0.0,
            "learning_rate": lambda left: 1e-3 * left, "clip_range": lambda left: 0.2 * left,
        },
        8,
    ),
    "Pendulum-v1": Game(
        "pendulum.toml",
        {
            "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10, "ent_coef": 0.0, "learning_rate": 1e-3,
            "clip_range": 0.2, "use_sde": True, "sde_sample_freq": 4,
        },
        4,
    ),
}  # fmt: skip


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("online-scores", help="CartPole and Pendulum, compared with SB3", description=__doc__)
    parser.add_argument("--games", nargs="*", default=list(GAMES), choices=list(GAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train both for each seed, print the table; return 0 if Hotlap solves CartPole and is not worse."""
    print(in_words(describe()))
    print("\n| environment | seed | steps | ours | Stable-Baselines3 |\n|---|---|---|---|---|")
    holds = True
    for name in arguments.games:
        game = GAMES[name]
        config = tomllib.loads((ROOT / "configs" / game.config).read_text(encoding="utf-8"))
        pairs = []
        for seed in arguments.seeds:
            pairs.append((hotlap_score(name, game, seed), sb3_score(name, game, config, seed)))
            steps = config["run"]["total_steps"]
            print(f"| {name} | {seed} | {steps:,} | {pairs[-1][0]:.1f} | {pairs[-1][1]:.1f} |", flush=True)
        means = [statistics.fmean(side) for side in zip(*pairs, strict=True)]
        print(f"| {name} | mean | | {means[0]:.1f} | {means[1]:.1f} |", flush=True)
        if name == "CartPole-v1":
            holds = holds and min(own for own, _ in pairs) >= SOLVED
        else:
            holds = holds and means[0] >= means[1]
    return 0 if holds else 1


def hotlap_score(name: str, game: Game, seed: int) -> float:
    """Train with the command that users run, and evaluate the model JSON."""
    from trainer.checkpoints.policy import load_policy

    with tempfile.TemporaryDirectory(prefix="hotlap-scores-") as folder:
        argv = [sys.executable, "-m", "trainer", "online", "--config", str(ROOT / "configs" / game.config)]
        argv += ["--seed", str(seed), "--device", "cpu", "--logs", folder]
        subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
        policy = load_policy(Path(folder) / "latest_run" / "checkpoints" / "best_model.json")

    def act(observations: NDArray[np.float32]) -> NDArray[Any]:
        mean = policy.mean(observations)
        return mean.argmax(axis=1) if name == "CartPole-v1" else 2.0 * np.clip(mean, -1.0, 1.0)

    return mean_return(name, act)


def sb3_score(name: str, game: Game, config: dict[str, Any], seed: int) -> float:
    """Train with Stable-Baselines3 and evaluate its best model."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    evaluation = config["evaluation"]
    with tempfile.TemporaryDirectory(prefix="hotlap-scores-") as folder:
        callback = EvalCallback(
            make_vec_env(name, 4, seed=seed + 5000), n_eval_episodes=evaluation["episodes"], verbose=0,
            eval_freq=evaluation["every_steps"] // game.zoo_envs, best_model_save_path=folder,
        )  # fmt: skip
        envs = make_vec_env(name, game.zoo_envs, seed=seed)
        model = PPO("MlpPolicy", envs, seed=seed, device="cpu", **game.zoo)
        model.learn(config["run"]["total_steps"], callback=callback)
        best = PPO.load(Path(folder) / "best_model.zip", device="cpu")
    return mean_return(name, lambda observations: best.predict(observations, deterministic=True)[0])


def mean_return(name: str, act: Act) -> float:
    """Return the mean return of episodes with different seeds."""
    import gymnasium

    environments = [gymnasium.make(name) for _ in range(EPISODES)]
    observations = np.stack([env.reset(seed=EPISODE_SEED + k)[0] for k, env in enumerate(environments)])
    returns, running = np.zeros(EPISODES), np.ones(EPISODES, dtype=bool)
    while running.any():
        actions = act(observations.astype(np.float32))
        for k in np.flatnonzero(running):
            observations[k], reward, terminated, truncated, _ = environments[k].step(actions[k])
            returns[k] += float(reward)
            running[k] = not (terminated or truncated)
    return float(returns.mean())
