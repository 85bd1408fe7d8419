"""What critic observations are worth in a small game: `python -m benchmarks.learning.critic_observations`.

The reward has a part that the policy cannot see and not change: a number that is drawn for each episode. Rollouts are
version 2 files with and without it as a critic observation. Printed are the mean reward of the policy without noise
and without that number (the best possible is 1), and the held-out value loss, cycle by cycle.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.job import Job, Result, RolloutInput
from schemas.model import Model, read_model
from schemas.rollout.rollout import Float32, Rollout
from schemas.rollout.v2 import rollout_to_v2
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.worker.jobs import run_job

SPACE = ContinuousActions.named(("steer", "throttle"))
CONTRACT = PolicyContract(observation_size=4, action_space=SPACE)
HIDDEN = (32, 32)
AGENTS, EPISODE = 8, 8
HIDDEN_STRENGTH = 2.0  #: standard deviation of the hidden part of the reward; the visible part is about 1


def reward_of(observations: Float32, actions: Float32) -> Float32:
    """Return the visible part of the reward: 1 for the best action, which depends on the first observation."""
    best = np.stack([0.8 * np.sign(observations[:, 0]), np.full(len(observations), 0.5)], axis=1)
    return np.asarray(1.0 - np.square(actions - best).sum(axis=1), dtype=np.float32)


def play(model: Model, steps: int, rng: np.random.Generator, *, writes: bool) -> Rollout:
    """Return a rollout of `steps` steps of each agent, acting as an engine does."""
    n = steps * AGENTS
    observations = rng.normal(size=(n, CONTRACT.observation_size)).astype(np.float32)
    mean, std = model.mean(observations).astype(np.float64), np.exp(model.action_log_std.astype(np.float64))
    actions = np.clip(rng.normal(mean, std), SPACE.low, SPACE.high).astype(np.float32)
    densities = -0.5 * np.square((actions - mean) / std) - np.log(std) - 0.5 * np.log(2.0 * np.pi)
    hidden = rng.normal(size=(-(-steps // EPISODE), AGENTS)).repeat(EPISODE, axis=0)[:steps].reshape(-1, 1)
    return Rollout(
        contract=CONTRACT,
        observations=observations,
        actions=actions,
        rewards=reward_of(observations, actions) + np.float32(HIDDEN_STRENGTH) * hidden[:, 0].astype(np.float32),
        terminated=np.repeat(np.arange(1, steps + 1) % EPISODE == 0, AGENTS),
        truncated=np.zeros(n, dtype=bool),
        log_probs=densities.sum(axis=1).astype(np.float32),
        values=np.zeros(n, dtype=np.float32),
        agents=np.tile(np.arange(AGENTS, dtype=np.int32), steps),
        after_gap=np.zeros(n, dtype=bool),
        final_observations=np.zeros((0, CONTRACT.observation_size), dtype=np.float32),
        final_agents=np.zeros(0, dtype=np.int32),
        reward_parts={},
        policy_version=None,
        noise_std=None,
        left_out=0,
        critic_observations=hidden.astype(np.float32) if writes else None,
    )


def skill(model: Model) -> float:
    """Return the visible reward of the policy without noise."""
    observations = np.random.default_rng(0).normal(size=(4000, CONTRACT.observation_size)).astype(np.float32)
    return float(reward_of(observations, np.clip(model.mean(observations), SPACE.low, SPACE.high)).mean())


def run(folder: Path, algorithm: str, seed: int, cycles: int, steps: int, *, writes: bool) -> list[tuple[float, float]]:
    """Return (skill, held-out value loss) after each cycle."""
    settings = TrainerSettings.model_validate({"algorithm": algorithm, "seed": seed, "device": "cpu"})
    rng = np.random.default_rng([seed, 1])
    entries: list[RolloutInput] = []
    parent: Path | None = None
    curve = []
    for cycle in range(cycles + 1):
        output = folder / f"cycle_{cycle}"
        output.mkdir(parents=True)
        job = Job(
            kind="train" if cycle else "initial",
            policy_version=cycle,
            output=str(output),
            contract=CONTRACT,
            hidden_sizes=HIDDEN,
            settings=settings,
            rollouts=tuple(entries),
            parent=None if parent is None else str(parent),
        )
        result: Result = run_job(job, MemoryReporter())
        parent, published = output / result.checkpoint, output / result.model
        model = read_model(published.read_bytes())
        if cycle:
            curve.append((skill(model), result.losses["value_loss"] or 0.0))
        data = rollout_to_v2(play(model, steps, rng, writes=writes), rollout_id=str(cycle), base64_columns=True)
        source = folder / f"rollout_{cycle}.json"
        source.write_bytes(data)
        old = [entry.model_copy(update={"is_new": False, "age": entry.age + 1}) for entry in entries]
        new = RolloutInput(
            name=source.name,
            sha256=sha256_of(data),
            source=str(source),
            cache="",
            is_new=True,
            behaviours=(str(published),),
        )
        entries = [*old, new]
    return curve


def main() -> int:
    """Print a table for each algorithm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.critic_observations", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--steps", type=int, default=128, help="steps of each of the 8 agents in a cycle (128)")
    parser.add_argument("--algorithms", nargs="+", default=["td3", "ppo"])
    arguments = parser.parse_args()
    for algorithm in arguments.algorithms:
        print(f"| {algorithm} | skill after cycles 1 to {arguments.cycles} | held-out value loss, last cycle |")
        print("|---|---|---|")
        for writes in (False, True):
            curves = []
            for seed in arguments.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    size = (arguments.cycles, arguments.steps)
                    curves.append(run(Path(folder), algorithm, seed, *size, writes=writes))
            mean = np.array(curves).mean(axis=0)
            skills = " ".join(f"{value:.2f}" for value in mean[:, 0])
            losses = " ".join(f"{curve[-1][1]:.2f}" for curve in curves)
            print(f"| {'with' if writes else 'without'} critic observations | {skills} | {losses} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
