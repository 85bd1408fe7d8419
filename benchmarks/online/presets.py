"""What presets gain: each environment with its preset and with the defaults of all settings, same steps and seeds.

The score is the mean return of the last model over 100 new episodes, the same ones for all, without noise.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.lib.host_info import describe, in_words

ROOT = Path(__file__).resolve().parents[2]
EPISODES, EPISODE_SEED, AT_ONCE, MOST_STEPS = 100, 10_000, 20, 100_000
STEPS = {
    "Acrobot-v1": 100_000,
    "CartPole-v1": 100_000,
    "Pendulum-v1": 100_000,
    "MountainCarContinuous-v0": 100_000,
    "LunarLander-v3": 200_000,
    "LunarLanderContinuous-v3": 200_000,
}
PRESETS = ("none", "auto")


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("online-presets", help="presets of hotlap online", description=__doc__)
    parser.add_argument("--games", nargs="*", default=list(STEPS), metavar="ID", help="Gymnasium ids")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of 100,000, or 200,000 for LunarLander")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and print a row for each environment."""
    print(in_words(describe()))
    print("\n| environment | steps | defaults: mean (each seed) | preset: mean (each seed) |\n|---|---|---|---|")
    for name in arguments.games:
        steps = arguments.steps or STEPS.get(name, 100_000)
        cells = []
        for preset in PRESETS:
            scores = [trained_score(name, preset, seed, steps) for seed in arguments.seeds]
            cells.append(f"{statistics.fmean(scores):.1f} ({', '.join(f'{score:.1f}' for score in scores)})")
        print(f"| {name} | {steps:,} | {' | '.join(cells)} |", flush=True)
    return 0


def trained_score(name: str, preset: str, seed: int, steps: int) -> float:
    """Train with the command that users run, and return the score of its last model."""
    with tempfile.TemporaryDirectory(prefix="hotlap-presets-") as folder:
        argv = [sys.executable, "-m", "trainer", "online", "--env", name, "--preset", preset, "--steps", str(steps)]
        argv += ["--seed", str(seed), "--device", "cpu", "--logs", folder]
        subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
        return score_of(Path(folder), name)


def score_of(logs: Path, name: str) -> float:
    """Return the mean return of a finished run's last model."""
    from schemas.model import read_model
    from trainer.envs.gymnasium_env import GymnasiumVecEnv
    from trainer.online.actor import Actor
    from trainer.online.evaluation.episodes import evaluate

    model = read_model((logs / "latest_run" / "checkpoints" / "final_model.json").read_bytes())
    env = GymnasiumVecEnv(name, AT_ONCE)
    actor = Actor.of_model(model)
    score = evaluate(actor, env, episodes=EPISODES, seed=EPISODE_SEED, most_steps=MOST_STEPS, stop=lambda: False)
    env.close()
    assert score is not None, "nothing stops it"
    return score.mean
