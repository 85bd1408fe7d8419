"""The effect of old rollouts on learning: `python -m benchmarks replay --help`.

The loop of daemon and engine in one process: the simulated engine writes ten rollouts, a job trains on them and on a
part of the older ones, the engine uses the new model. Two runs with the same seed differ only in `history_ratio`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.lib import host_info as machine
from benchmarks.lib.doc_tables import table
from schemas.job import Job, Result, RolloutInput
from schemas.model import Model, read_model
from schemas.rollout.reader import read_rollout
from schemas.settings.models import AgentSettings, TrainerSettings
from schemas.storage.files import sha256_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.simulate.engine import Engine
from trainer.simulate.model_file import load_model
from trainer.simulate.options import SimulationOptions

ROLLOUTS = 10
AGES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class HistoryOutcome:
    """The outcome of one run: the reward per step of each batch, and its overlap with later policies."""

    rewards: list[float]
    overlaps: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))  #: by age in cycles


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("replay", help="learning with and without old rollouts (minutes)", description=__doc__)
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED", help="(0 1 2)")
    p.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.25, 1.0], metavar="R", help="(0 0.25 1)")
    p.add_argument("--cycles", type=int, default=12, metavar="N", help="cycles per run (12)")
    p.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Print both tables."""
    outcomes: dict[float, list[HistoryOutcome]] = {ratio: [] for ratio in arguments.ratios}
    for seed in arguments.seeds:
        for ratio in arguments.ratios:
            outcomes[ratio].append(run_cycles(ratio, seed, arguments.cycles))
            print(f"seed {seed}, history_ratio {ratio:g}: {outcomes[ratio][-1].rewards[-1]:.3f}", file=sys.stderr)
    print(f"on {machine.in_words(machine.describe())}")
    print("\n".join(_reward_table(outcomes)))
    print()
    print("\n".join(_overlap_table([outcome for found in outcomes.values() for outcome in found])))
    return 0


def run_cycles(ratio: float, seed: int, cycles: int) -> HistoryOutcome:
    """Train for `cycles` cycles, and collect once more with the last model."""
    with tempfile.TemporaryDirectory(prefix="hotlap-replay-") as name:
        loop = _Loop(Path(name), TrainerSettings(seed=seed, history_ratio=ratio, device="cpu"))
        for _ in range(cycles):
            loop.run_cycle()
        loop.collect_batch()
        return loop.outcome


class _Loop:
    """One run's engine, models and rollouts."""

    def __init__(self, folder: Path, settings: TrainerSettings) -> None:
        self._folder, self._settings = folder, settings
        self._engine = Engine(SimulationOptions(project=folder, seed=settings.seed, format="v2-base64", quiet=True))
        self._batches: list[list[RolloutInput]] = []
        self._cycle = 0
        self.outcome = HistoryOutcome([])
        self._last = self._run("initial", ())

    def run_cycle(self) -> None:
        """Collect a batch and train on it."""
        new = self.collect_batch()
        inputs = [
            arguments.model_copy(update={"is_new": arguments in new, "age": len(self._batches) - 1 - i})
            for i, batch in enumerate(self._batches)
            for arguments in batch
        ]
        self._cycle += 1
        self._last = self._run("train", tuple(inputs))

    def collect_batch(self) -> list[RolloutInput]:
        """Collect a batch, and record its reward and the overlap of the old batches."""
        engine, model = self._engine, str(self._model_path())
        engine.model = load_model(self._model_path())
        engine.options = replace(engine.options, rollouts=engine.rollouts + ROLLOUTS)
        before = set(engine.exports.glob("*.json"))
        engine.run()
        paths = sorted(set(engine.exports.glob("*.json")) - before)
        new = [
            RolloutInput(
                name=p.name, sha256=sha256_of(p.read_bytes()), source=str(p), cache="", is_new=True, behaviours=(model,)
            )
            for p in paths
        ]
        self._batches.append(new)
        self.outcome.rewards.append(statistics.fmean(_rewards(path) for path in paths))
        now = read_model(self._model_path().read_bytes())
        for age in AGES:
            if age < len(self._batches):
                self.outcome.overlaps[age].append(_overlap(self._batches[-1 - age][0], now))
        return new

    def _model_path(self) -> Path:
        return self._folder / f"cycle_{self._cycle:06d}" / self._last.model

    def _run(self, kind: Literal["initial", "train"], rollouts: tuple[RolloutInput, ...]) -> Result:
        from trainer.worker.jobs import run_job

        output = self._folder / f"cycle_{self._cycle:06d}"
        output.mkdir()
        parent = None
        if kind == "train":
            parent = str(self._folder / f"cycle_{self._cycle - 1:06d}" / self._last.checkpoint)
        agent = AgentSettings()
        job = Job(
            kind=kind,
            policy_version=self._cycle,
            output=str(output),
            contract=agent.contract(),
            hidden_sizes=agent.hidden_sizes,
            settings=self._settings,
            rollouts=rollouts,
            parent=parent,
        )
        return run_job(job, MemoryReporter())


def _rewards(path: Path) -> float:
    return float(read_rollout(path.read_bytes()).rewards.mean(dtype=np.float64))


def _overlap(entry: RolloutInput, now: Model) -> float:
    """Return the mean of min(1, now / then) over the densities of a rollout's actions."""
    rollout = read_rollout(Path(entry.source).read_bytes())
    mean = now.mean(rollout.observations).astype(np.float64)
    std = np.exp(now.action_log_std.astype(np.float64))
    z = (rollout.actions - mean) / std
    density = (-0.5 * z**2 - np.log(std) - 0.5 * np.log(2.0 * np.pi)).sum(axis=1)
    return float(np.minimum(1.0, np.exp(density - rollout.log_probs)).mean())


def _reward_table(outcomes: dict[float, list[HistoryOutcome]]) -> list[str]:
    rows = []
    for ratio, found in outcomes.items():
        whole = [statistics.fmean(outcome.rewards[1:]) for outcome in found]
        last = [statistics.fmean(outcome.rewards[-3:]) for outcome in found]
        rows.append([f"{ratio:g}", _with_spread(whole), _with_spread(last)])
    return table(["history_ratio", "reward per step, all cycles", "the last three"], rows)


def _overlap_table(outcomes: list[HistoryOutcome]) -> list[str]:
    found = {age: [x for outcome in outcomes for x in outcome.overlaps[age]] for age in AGES}
    rows = [[str(age), _with_spread(values)] for age, values in found.items() if values]
    return table(["cycles ago", "overlap with the policy now"], rows)


def _with_spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
