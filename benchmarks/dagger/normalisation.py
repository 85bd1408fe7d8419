"""Normalisation of DAgger's observations: damped with few labels, compared with one standard deviation per column.

The labels come from known functions of fifteen columns: a smooth one with three real outputs, and a tree of four
choices. The table has the error on held-out states after each 2,000 gradient steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib import host_info as machine

COLUMNS, HELD_OUT, STEPS = 15, 5000, 2000
FEW, MANY = 300, 7000


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("dagger-inputs", help="normalisation of DAgger's observations", description=__doc__)
    p.add_argument("--seeds", type=int, default=2, metavar="N", help="number of seeds (2)")
    p.add_argument("--rounds", type=int, default=5, metavar="N", help=f"rounds of {STEPS} gradient steps (5)")
    p.set_defaults(run=main)


def smooth(x: NDArray[np.float32]) -> NDArray[Any]:
    """Return three numbers in [-1, 1] per state."""
    sums = (np.tanh(x[:, 0] + x[:, 1] * x[:, 2]), np.sin(2 * x[:, 3]), np.clip(x[:, 4] - x[:, 5], -1, 1))
    return np.stack(sums, axis=1).astype(np.float32)


def tree(x: NDArray[np.float32]) -> NDArray[Any]:
    """Return one of four choices per state, decided by thresholds."""
    low = (x[:, 1] * x[:, 2] > 0.1) ^ (x[:, 3] > -0.2)
    return (2 * (x[:, 0] > 0.3) + low).astype(np.int64)


def main(arguments: argparse.Namespace) -> int:
    """Print the table."""
    import torch

    torch.set_num_threads(1)
    print(f"on {machine.in_words(machine.describe())}\n")
    rounds = " | ".join(f"{STEPS * (number + 1)} steps" for number in range(arguments.rounds))
    print(f"| labels of | how many | units | {rounds} |\n|---|---|---|" + "---|" * arguments.rounds)
    for name, function in (("smooth, rms error", smooth), ("tree, wrong choices", tree)):
        for labels in (FEW, MANY):
            for units, is_damped in (("small with few labels", True), ("one deviation", False)):
                errors = np.mean(
                    [_errors(function, labels, is_damped, seed, arguments.rounds) for seed in range(arguments.seeds)], 0
                )
                print(f"| {name} | {labels} | {units} | " + " | ".join(f"{e:.3f}" for e in errors) + " |", flush=True)
    return 0


def _errors(function: Callable[[Any], Any], labels: int, is_damped: bool, seed: int, rounds: int) -> list[float]:
    """Return the error on held-out states after each round."""
    from trainer.dagger.actions import ActionSpec
    from trainer.dagger.training.dataset import Dataset, RoundWriter
    from trainer.dagger.training.learner import INPUT_DAMPING_LABELS, DaggerLearner, LearnerConfig
    from trainer.envs.observations import ObservationSpec

    actions: dict[Callable[[Any], Any], ActionSpec] = {
        smooth: ActionSpec("continuous", ("a", "b", "c"), (-1.0,) * 3, (1.0,) * 3),
        tree: ActionSpec("discrete", ("a", "b", "c", "d")),
    }
    rng = np.random.default_rng(seed)
    x, held_out = (rng.normal(size=(n, COLUMNS)).astype(np.float32) for n in (labels, HELD_OUT))
    config, errors = LearnerConfig("INPUTS", 256, 3e-4, seed, "cpu", INPUT_DAMPING_LABELS if is_damped else 0.0), []
    learner = DaggerLearner(ObservationSpec((COLUMNS,), is_image=False), actions[function], config)
    learner.update_normaliser(x)
    with tempfile.TemporaryDirectory() as folder:
        writer = RoundWriter(Path(folder), 0)
        writer.add(x, function(x))
        writer.finish()
        data = Dataset(Path(folder), 1)
        for number in range(rounds):
            learner.train(data, steps=STEPS, batch_size=64, round_number=number)
            acted, right = learner.act(held_out), function(held_out)
            wrong = np.square(acted - right).mean() ** 0.5 if function is smooth else (acted != right).mean()
            errors.append(float(wrong))
    return errors
