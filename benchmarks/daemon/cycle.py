"""A whole cycle of a real daemon: from the last rollout's rename to the new path in best_model_path.txt.

10 rollouts of 2048 experiences of the published model; nine have been accepted when the last one is renamed. Warm: a
warm trainer is ready. Cold: `warm_trainer = false`. For comparison, the same
rounds measure the update alone, by Stable-Baselines3 and by the plain loop, on as many experiences.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.lib.measurement import Claim, Figure, Section, Sense, median_claim, ratio_claim
from benchmarks.lib.progress import PrintProgress

if TYPE_CHECKING:
    from benchmarks.lib.live_daemon import LiveDaemon
    from benchmarks.update.contenders import Contender

NAME = "cycle"
HELP = "from the last rollout's rename to the new model's path, warm and cold"
ROLLOUTS = 10
MAX_OF_SB3, MAX_OF_BARE, MAX_OF_EAGER = 0.25, 1.2, 0.5
MAX_TO_FIRST_STEP_MS = 150.0
_STEP = 64
"""The number of experiences is rounded to a multiple of this."""


@dataclass(slots=True)
class _BatchSizeResult:
    """The results at one batch size; every list has one entry per round."""

    batch: int
    warm: list[float] = field(default_factory=list)  #: s
    cold: list[float] = field(default_factory=list)  #: s; may have fewer rounds
    first_step: list[float] = field(default_factory=list)  #: ms from the rename; empty if it was not logged
    bare: list[float] = field(default_factory=list)  #: s; the mean of one before the cycle and one after it
    references: dict[str, list[float]] = field(default_factory=dict)  #: s; Stable-Baselines3, then the plain loop
    experiences: int = 0
    device: str = ""


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=9, metavar="N", help="warm cycles, and updates to compare with (9)")
    p.add_argument("--cold-cycles", type=int, default=3, metavar="N", help="cold cycles (3)")
    p.add_argument("--batches", type=int, nargs="+", default=[64, 512], metavar="B", help="minibatch sizes (64 512)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Run both daemons and all updates alternately, for each batch size."""
    from benchmarks.update.contenders import usual_threads

    usual_threads()
    blocks = [_block(batch, arguments, print_progress) for batch in arguments.batches]
    figures = [figure for block in blocks for figure in _figures(block)]
    claims = [claim for block in blocks for claim in _claims(block)]
    sizes = " and ".join(f"{block.experiences:,}" for block in blocks)
    notes = (
        f"{ROLLOUTS} rollouts of 2,048 experiences, 10 epochs, no old rollouts; the other updates",
        f"have {sizes} experiences, as many as the cycle trains on without the held-out ones.",
        f"The daemon trained on: {', '.join(sorted({block.device for block in blocks}))}.",
    )
    return Section(NAME, "The cycle", tuple(figures), tuple(claims), notes=notes)


def _block(batch: int, arguments: argparse.Namespace, print_progress: PrintProgress) -> _BatchSizeResult:
    from benchmarks.lib.live_daemon import LiveDaemon

    block = _BatchSizeResult(batch)
    with tempfile.TemporaryDirectory(prefix="hotlap-cycle-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        print_progress(f"batch {batch}: starting the daemons, first cycles")
        warm = stack.enter_context(LiveDaemon("warm", Path(name) / "warm", _config(batch, is_warm=True)))
        colds = min(arguments.cold_cycles, arguments.rounds)
        cold = (
            stack.enter_context(LiveDaemon("cold", Path(name) / "cold", _config(batch, is_warm=False)))
            if colds
            else None
        )
        for live in filter(None, (warm, cold)):
            live.cycle(live.collect_rollouts(ROLLOUTS))
        hotlap, *references = _runners(block, warm)
        for k in range(arguments.rounds):
            files = warm.collect_rollouts(ROLLOUTS)
            warm.wait_for_warm_trainer()
            before = _seconds(block, hotlap)
            timed = warm.cycle(files)
            block.warm.append(timed.seconds)
            if timed.first_step_ms is not None:
                block.first_step.append(timed.first_step_ms)
            if cold is not None and k < colds:
                warm.wait_for_warm_trainer()
                block.cold.append(cold.cycle(cold.collect_rollouts(ROLLOUTS)).seconds)
            warm.wait_for_warm_trainer()  # its imports would use a core that the updates need
            block.bare.append((before + _seconds(block, hotlap)) / 2.0)
            for runner in references:
                block.references.setdefault(runner.name, []).append(_seconds(block, runner))
            others = ", ".join(f"{name} {seconds[-1]:.2f} s" for name, seconds in block.references.items())
            print_progress(
                f"batch {batch}: round {k + 1} of {arguments.rounds}: cycle {block.warm[-1]:.2f} s, "
                f"bare update {block.bare[-1]:.2f} s, {others}"
            )
    return block


def _config(batch: int, *, is_warm: bool) -> str:
    daemon = f"[daemon]\nauto_train_after_n_rollouts = {ROLLOUTS}\nwarm_trainer = {str(is_warm).lower()}\n"
    return f"{daemon}[trainer]\nbatch_size = {batch}\nhistory_ratio = 0\n"


def _runners(block: _BatchSizeResult, warm: LiveDaemon) -> list[Contender]:
    """Return Hotlap, Stable-Baselines3 and the plain loop, on as many experiences as the cycle trained on."""
    import torch

    from benchmarks.lib.samples import make_samples
    from benchmarks.update.contenders import contenders

    result = warm.last_result()
    samples = make_samples().settings(batch_size=block.batch)
    trained = result.experiences * (1.0 - samples.job.settings.holdout_fraction)
    block.experiences, block.device = round(trained / _STEP) * _STEP, result.device
    warm.wait_for_warm_trainer()
    return contenders(samples.first(block.experiences), torch.device(block.device))[:3]


def _seconds(block: _BatchSizeResult, runner: Contender) -> float:
    import torch

    from benchmarks.update.contenders import seconds

    return seconds(runner, torch.device(block.device))


def _figures(block: _BatchSizeResult) -> list[Figure]:
    batch_label = f"batch {block.batch}"
    bare = f"bare update, {batch_label}"
    figures = [Figure(f"warm cycle, {batch_label}", "s", tuple(block.warm), bare)]
    if block.cold:
        figures.append(Figure(f"cold cycle, {batch_label}", "s", tuple(block.cold), bare))
    if block.first_step:
        figures.append(Figure(f"rename to first gradient step, warm, {batch_label}", "ms", tuple(block.first_step)))
    figures.append(Figure(bare, "s", tuple(block.bare)))
    return figures + [
        Figure(f"{name}, update alone, {batch_label}", "s", tuple(seconds), bare)
        for name, seconds in block.references.items()
    ]


def _claims(block: _BatchSizeResult) -> list[Claim]:
    sb3, loop = block.references.values()
    if block.batch == 64:
        return [
            ratio_claim(
                "Warm cycle at batch 64, of Stable-Baselines3's update alone",
                Sense.AT_MOST,
                MAX_OF_SB3,
                block.warm,
                sb3,
            ),
            ratio_claim("Warm cycle at batch 64, of the bare update", Sense.UNDER, MAX_OF_BARE, block.warm, block.bare),
            median_claim(
                "Last rename to first gradient step, warm", Sense.UNDER, MAX_TO_FIRST_STEP_MS, block.first_step, "ms"
            ),
        ]
    if block.batch == 512:
        text = "Warm cycle at batch 512, of the plain eager update alone"
        return [ratio_claim(text, Sense.AT_MOST, MAX_OF_EAGER, block.warm, loop)]
    return []
