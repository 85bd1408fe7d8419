"""The update of one cycle, compared with Stable-Baselines3, a plain eager loop and the arithmetic alone.

The same training set and hyperparameters for all: 10 rollouts of 2048 experiences of version 0 in the racing game, 15
observations, 3 actions, separate policy and value networks of two layers of 128, 10 epochs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.lib.measurement import Claim, Figure, Section, Sense, number, ratio_claim
from benchmarks.lib.progress import PrintProgress

if TYPE_CHECKING:
    import torch

    from benchmarks.lib.samples import Samples

NAME = "update"
HELP = "the update, compared with Stable-Baselines3, a plain loop and the matrix products alone"
MIN_TIMES_SB3, MIN_TIMES_EAGER = 5.0, 4.0


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of all contenders (5)")
    p.add_argument("--batches", type=int, nargs="+", default=[64, 512], metavar="B", help="minibatch sizes (64 512)")
    p.add_argument("--samples", type=int, default=20480, metavar="N", help="experiences (20480)")
    p.add_argument("--epochs", type=int, default=10, metavar="N", help="epochs (10)")
    p.add_argument("--devices", nargs="+", metavar="D", help="cpu, cuda (all that exist)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Run the updates of all contenders alternately, round after round."""
    import torch

    from benchmarks.lib.samples import make_samples
    from benchmarks.update.contenders import usual_threads
    from benchmarks.update.matmul_floor import flop

    usual_threads()
    print_progress("collecting the samples")
    samples = make_samples(arguments.samples).settings(epochs=arguments.epochs)
    devices = arguments.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    figures: list[Figure] = []
    claims: list[Claim] = []
    for device in map(torch.device, devices):
        for batch in arguments.batches:
            found = _measure_batch_size(samples.settings(batch_size=batch), device, arguments.rounds, print_progress)
            figures += found
            if device.type == "cpu" and batch == 64:
                claims += _claims(found)
    job = samples.job
    work = flop((job.contract.observation_size, *job.hidden_sizes), (job.contract.action_space.output_size, 1))
    at_bound = (samples.batch.action_BC[:, job.contract.action_space.width : -1] != 0).float().mean().item()
    passes = arguments.samples * arguments.epochs
    notes = (
        f"{arguments.samples:,} experiences, {arguments.epochs} epochs, {at_bound:.0%} of the actions at a bound;",
        f"{number(passes * work / 1e9)} GFLOP. All alternate for {arguments.rounds} rounds;",
        "ratios are those within a round.",
        "Stable-Baselines3 and the plain loop use the number of threads that is faster for them.",
    )
    return Section(NAME, "The update", tuple(figures), tuple(claims), notes=notes)


def _measure_batch_size(
    samples: Samples, device: torch.device, rounds: int, print_progress: PrintProgress
) -> list[Figure]:
    from benchmarks.update.contenders import contenders, seconds

    batch = samples.job.settings.batch_size
    label = f"batch {batch}" if device.type == "cpu" else f"batch {batch}, {device.type}"
    print_progress(f"{label}: choosing threads")
    runners = contenders(samples, device)
    times: dict[str, list[float]] = {runner.name: [] for runner in runners}
    for k in range(rounds):
        for runner in runners:
            times[runner.name].append(seconds(runner, device))
        print_progress(
            f"{label}: round {k + 1} of {rounds}: {', '.join(f'{n} {t[-1]:.2f} s' for n, t in times.items())}"
        )
    figures = [Figure(f"{name}, {label}", "s", tuple(seconds_taken)) for name, seconds_taken in times.items()]
    timed, floors = figures[:3], figures[3:]
    lowest = min(floors, key=lambda figure: figure.median).name
    return [replace(figure, floor=lowest) for figure in timed] + floors


def _claims(figures: list[Figure]) -> list[Claim]:
    hotlap, sb3, loop = figures[:3]
    return [
        ratio_claim(
            "Update at batch 64, times Stable-Baselines3's speed",
            Sense.AT_LEAST,
            MIN_TIMES_SB3,
            sb3.values,
            hotlap.values,
        ),
        ratio_claim(
            "Update at batch 64, times the plain eager loop's speed",
            Sense.AT_LEAST,
            MIN_TIMES_EAGER,
            loop.values,
            hotlap.values,
        ),
    ]
