"""Learning with one wrong number in one rollout: `python -m benchmarks outliers --help`.

The loop of daemon and engine in one process: the simulated engine writes rollouts, a job trains on them and on the
earlier ones, the engine uses the new model. In one cycle, one number of one rollout is wrong. Each run is compared
with one of the same seed that differs in nothing else. The number "reward 0" is a usual one: it shows how far two runs
diverge after any change. If a training fails and names rollouts, it is repeated without them, as the daemon does.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.lib import host_info as machine
from benchmarks.lib.doc_tables import table
from schemas.job import Job, Result, RolloutInput
from schemas.rollout.reader import read_rollout
from schemas.settings.models import AgentSettings, TrainerSettings
from schemas.storage.files import sha256_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.simulate.engine import Engine
from trainer.simulate.model_file import load_model
from trainer.simulate.options import SimulationOptions

CYCLE = 6  #: the cycle with the wrong number
RECOVERED = 5  #: cycles after which the reward is compared
TOLERANCE = 0.03
Document = dict[str, Any]
RolloutFormat = Literal["v1", "v2"]


@dataclass(frozen=True, slots=True)
class Outlier:
    """A wrong number: where it is, and its value."""

    column: str
    value: float

    def put_into(self, document: Document) -> None:
        """Replace one number in the middle of a rollout, of either version."""
        rows = document.get("experiences")
        row = len(rows or document["rewards"]) // 2
        match self.column:
            case "observation" if rows:
                rows[row]["state"][3] = self.value
            case "action" if rows:
                rows[row]["action"]["steer"] = self.value
            case column if rows:
                rows[row][column] = self.value
            case "observation":
                document["observations"][row][3] = self.value
            case "action":
                document["actions"][row][0] = self.value
            case column:
                document[f"{column}s"][row] = self.value


OUTLIERS: Mapping[str, Outlier | None] = {
    "none": None,
    "reward 0": Outlier("reward", 0.0),
    "reward 1e3": Outlier("reward", 1e3),
    "reward 1e6": Outlier("reward", 1e6),
    "reward 1e9": Outlier("reward", 1e9),
    "reward 9e11": Outlier("reward", 9e11),
    "reward -9e11": Outlier("reward", -9e11),
    "observation 1e4": Outlier("observation", 1e4),
    "observation 1e8": Outlier("observation", 1e8),
    "observation 9e11": Outlier("observation", 9e11),
    "action 1e6": Outlier("action", 1e6),
    "log_prob -9e11": Outlier("log_prob", -9e11),
    "log_prob 9e11": Outlier("log_prob", 9e11),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run."""

    outlier: str
    seed: int
    cycles: int
    algorithm: str
    format: RolloutFormat
    rollouts: int
    steps: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reward per step before each cycle and after the last one, and the cycles whose training failed."""

    rewards: tuple[float, ...]
    failed: tuple[int, ...] = field(default=())

    def recovered(self) -> float:
        """Return the mean reward from `RECOVERED` cycles after the wrong number on."""
        return statistics.fmean(self.rewards[CYCLE + RECOVERED :])


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("outliers", help="learning with one wrong number (minutes to hours)", description=__doc__)
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED", help="(0 1 2)")
    p.add_argument("--cycles", type=int, default=24, metavar="N", help="cycles per run, at least 12 (24)")
    p.add_argument("--algorithms", nargs="+", choices=("ppo", "td3"), default=["td3", "ppo"], help="(td3 ppo)")
    p.add_argument("--formats", nargs="+", choices=("v1", "v2"), default=["v1"], help="(v1)")
    p.add_argument("--only", nargs="+", choices=[name for name in OUTLIERS if name != "none"], metavar="NAME")
    p.add_argument("--rollouts", type=int, default=4, metavar="N", help="rollouts per cycle (4)")
    p.add_argument("--steps", type=int, default=1024, metavar="N", help="experiences per rollout (1024)")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at the same time, one core each (1)")
    p.add_argument("--out", type=Path, metavar="FILE", help="keep the runs in this file, and do not repeat those in it")
    p.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Print one table for each algorithm and format; return 1 if a mean is not within the tolerance."""
    if arguments.cycles < CYCLE + RECOVERED + 1:
        print(f"--cycles must be at least {CYCLE + RECOVERED + 1}", file=sys.stderr)
        return 2
    is_good = True
    for algorithm in arguments.algorithms:
        for rollout_format in arguments.formats:
            names = ["none", *(arguments.only or [name for name in OUTLIERS if name != "none"])]
            sizes = (arguments.rollouts, arguments.steps)
            runs = [
                Run(name, seed, arguments.cycles, algorithm, rollout_format, *sizes)
                for seed in arguments.seeds
                for name in names
            ]
            outcomes = _outcomes_of(runs, arguments.jobs, arguments.out)
            title = f"{algorithm}, {rollout_format}, {arguments.cycles} cycles of {sizes[0]} x {sizes[1]} experiences"
            print(f"\n{title}, {len(arguments.seeds)} seeds, on {machine.in_words(machine.describe())}\n")
            print("\n".join(_table(names, outcomes)), flush=True)
            is_good &= all(_is_good(name, outcomes) for name in names[1:])
    return 0 if is_good else 1


def _outcomes_of(runs: Sequence[Run], jobs: int, store: Path | None) -> dict[Run, Outcome]:
    """Return the outcomes of all runs; those in the file are not repeated, the others are added to it."""
    known: dict[Run, Outcome] = {}
    if store is not None and store.exists():
        for line in store.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            known[Run(**entry["run"])] = Outcome(tuple(entry["rewards"]), tuple(entry["failed"]))
    outcomes = {run: known[run] for run in runs if run in known}
    for run, outcome in _run_all([run for run in runs if run not in known], jobs):
        outcomes[run] = outcome
        if store is not None:
            with store.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"run": asdict(run)} | asdict(outcome)) + "\n")
    return outcomes


def _run_all(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Outcome]]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_cycles, run): run for run in runs}
        for future in as_completed(futures):
            run, outcome = futures[future], future.result()
            print(f"{run.algorithm} seed {run.seed}, {run.outlier}: {outcome.recovered():.3f}, failed cycles"
                  f" {list(outcome.failed) or 'none'}", file=sys.stderr, flush=True)  # fmt: skip
            yield run, outcome


def run_cycles(run: Run) -> Outcome:
    """Return the outcome of one run."""
    from trainer.common import threads  # here, because it imports torch

    threads.limit_numpy_to_one_thread()
    threads.set_thread_count(1)
    with tempfile.TemporaryDirectory(prefix="hotlap-outliers-") as name:
        loop = _Loop(Path(name), run)
        for _ in range(run.cycles):
            loop.run_cycle()
        loop.collect()
        return Outcome(tuple(loop.rewards), tuple(loop.failed))


class _Loop:
    """One run's engine, models and rollouts."""

    def __init__(self, folder: Path, run: Run) -> None:
        self._folder, self._run, self._outlier = folder, run, OUTLIERS[run.outlier]
        settings = {"seed": run.seed, "device": "cpu", "threads": 1, "algorithm": run.algorithm}
        self._settings = TrainerSettings.model_validate(settings)
        options = SimulationOptions(
            project=folder, seed=run.seed, agents=8, experiences=run.steps, format=run.format, quiet=True
        )
        self._engine = Engine(options)
        self._batches: list[list[RolloutInput]] = []
        self._cycle = 0
        self._model = self._checkpoint = folder
        self.rewards: list[float] = []
        self.failed: list[int] = []
        self._train("initial", ())

    def run_cycle(self) -> None:
        """Collect a batch and train on it, if necessary without rollouts that make the training fail."""
        self.collect()
        self._cycle += 1
        try:
            self._train("train", self._inputs())
        except Exception as error:  # noqa: BLE001
            self.failed.append(self._cycle)
            suspects = {suspect.sha256 for suspect in getattr(error, "suspects", ())}
            print(f"seed {self._run.seed}, {self._run.outlier}, cycle {self._cycle}: {error}", file=sys.stderr)
            self._batches = [[r for r in batch if r.sha256 not in suspects] for batch in self._batches]
            if suspects:
                self._train("train", self._inputs())

    def collect(self) -> None:
        """Let the engine write a batch, put in the wrong number if it is due, and record the reward."""
        engine = self._engine
        engine.model = load_model(self._model)
        engine.options = replace(engine.options, rollouts=engine.rollouts + self._run.rollouts)
        before = set(engine.exports.glob("*.json"))
        engine.run()
        paths = sorted(set(engine.exports.glob("*.json")) - before, key=lambda path: int(path.name.split("_")[1]))
        self.rewards.append(statistics.fmean(_reward(path) for path in paths))
        if self._outlier is not None and len(self._batches) + 1 == CYCLE:
            document = json.loads(paths[0].read_text(encoding="utf-8"))
            self._outlier.put_into(document)
            paths[0].write_text(json.dumps(document), encoding="utf-8")
        self._batches.append([self._input(path) for path in paths])

    def _input(self, path: Path) -> RolloutInput:
        sha256, model = sha256_of(path.read_bytes()), str(self._model)
        return RolloutInput(name=path.name, sha256=sha256, source=str(path), cache="", is_new=True, behaviours=(model,))

    def _inputs(self) -> tuple[RolloutInput, ...]:
        newest = len(self._batches) - 1
        return tuple(
            rollout.model_copy(update={"is_new": i == newest, "age": newest - i, "repeated": ""})
            for i, batch in enumerate(self._batches)
            for rollout in batch
        )

    def _train(self, kind: Literal["initial", "train"], rollouts: tuple[RolloutInput, ...]) -> None:
        from trainer.worker.jobs import run_job

        output = self._folder / f"cycle_{self._cycle:06d}"
        output.mkdir(exist_ok=True)
        agent = AgentSettings()
        job = Job(
            kind=kind,
            policy_version=self._cycle,
            output=str(output),
            contract=agent.contract(),
            hidden_sizes=agent.hidden_sizes,
            settings=self._settings,
            rollouts=rollouts,
            parent=str(self._checkpoint) if kind == "train" else None,
        )
        result: Result = run_job(job, MemoryReporter())
        self._model, self._checkpoint = output / result.model, output / result.checkpoint


def _reward(path: Path) -> float:
    return float(read_rollout(path.read_bytes()).rewards.mean(dtype=np.float64))


def _ratios(name: str, outcomes: Mapping[Run, Outcome]) -> list[float]:
    """Return the reward with the wrong number over that without, for each seed."""
    plain = {run.seed: outcome.recovered() for run, outcome in outcomes.items() if run.outlier == "none"}
    return [outcome.recovered() / plain[run.seed] for run, outcome in outcomes.items() if run.outlier == name]


def _is_good(name: str, outcomes: Mapping[Run, Outcome]) -> bool:
    failed = {cycle for run, outcome in outcomes.items() if run.outlier == name for cycle in outcome.failed}
    return statistics.fmean(_ratios(name, outcomes)) >= 1.0 - TOLERANCE and failed <= {CYCLE}


def _table(names: Sequence[str], outcomes: Mapping[Run, Outcome]) -> list[str]:
    rows = []
    for name in names:
        found = [outcome for run, outcome in outcomes.items() if run.outlier == name]
        ratios = _ratios(name, outcomes)
        error = statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
        failed = sorted(cycle for outcome in found for cycle in outcome.failed)
        reward = statistics.fmean(outcome.recovered() for outcome in found)
        ratio = "" if name == "none" else f"{statistics.fmean(ratios):.3f} +- {error:.3f}"
        rows.append([name, f"{reward:.3f}", ratio, ", ".join(map(str, failed)) or "none"])
    first = CYCLE + RECOVERED
    return table(["wrong number", f"reward per step after cycle {first} and later", "ratio", "failed cycles"], rows)
