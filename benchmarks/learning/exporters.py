"""Learning from the same game as different exporters write it: `python -m benchmarks exporters --help`.

The loop of daemon and engine in one process. The simulated engine writes rollouts of version 1; each variant changes
them as an exporter of another game would. Two variants with one seed differ only in that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.lib import host_info as machine
from benchmarks.lib.doc_tables import table
from schemas.job import Job, Result, RolloutInput
from schemas.settings.models import AgentSettings, TrainerSettings
from schemas.storage.files import sha256_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.simulate.engine import Engine
from trainer.simulate.model_file import load_model
from trainer.simulate.options import SimulationOptions

ROLLOUTS = 4
_OWN_NAMES = {"steer": "turn", "throttle": "gas", "brake": "stop"}
Experience = dict[str, Any]
_PRESENT_TICKS, _ABSENT_TICKS = (15, 80), (5, 40)


@dataclass(frozen=True, slots=True)
class Exporter:
    """What an exporter makes of an experience, and the `[agent]` of its game."""

    change: Callable[[Experience], object]
    agent: Mapping[str, Any] = field(default_factory=dict)
    arrange: Callable[[list[Experience], np.random.Generator], list[Experience]] | None = None


def _sort_keys(experience: Experience) -> None:
    experience["action"] = dict(sorted(experience["action"].items()))


def _rename(experience: Experience, scale: float = 1.0) -> None:
    action, scales = experience["action"], {"throttle": scale}
    experience["action"] = {own: action[name] * scales.get(name, 1.0) for name, own in _OWN_NAMES.items()}


def _without_log_prob_at_bounds(experience: Experience) -> None:
    if any(value in {-1.0, 0.0, 1.0} for value in experience["action"].values()):
        experience["log_prob"] = None
    del experience["value"]


def _own_names(high: float) -> dict[str, Any]:
    bounds = {"action_low": (-1.0, 0.0, 0.0), "action_high": (1.0, high, 1.0)}
    return {"actions": tuple(_OWN_NAMES.values()), "observation_size": 15, **bounds}


def _forget_agents(experience: Experience) -> None:
    experience["agent_index"] = 0


def shuffled_ticks(experiences: list[Experience], rng: np.random.Generator) -> list[Experience]:
    """Return the experiences in a random order within each tick, as an unstable sort by time leaves them."""
    ticks = _ticks(experiences)
    return [tick[i] for tick in ticks for i in rng.permutation(len(tick))]


def come_and_go(experiences: list[Experience], rng: np.random.Generator) -> list[Experience]:
    """Return the experiences of agents that are removed for some time, without `done`, in a random order in a tick."""
    ticks = _ticks(experiences)
    present = np.zeros((len(ticks), len(ticks[0])), dtype=bool)
    for agent in range(present.shape[1]):
        tick, is_present = 0, bool(rng.random() < 0.7)
        while tick < len(ticks):
            length = int(rng.integers(*(_PRESENT_TICKS if is_present else _ABSENT_TICKS)))
            present[tick : tick + length, agent] = is_present
            tick, is_present = tick + length, not is_present
    here = [
        [e for e, is_here in zip(tick, row, strict=True) if is_here] for tick, row in zip(ticks, present, strict=True)
    ]
    return [tick[i] for tick in here for i in rng.permutation(len(tick))]


def _ticks(experiences: list[Experience]) -> list[list[Experience]]:
    agents = 1 + max(e["agent_index"] for e in experiences)
    return [experiences[i : i + agents] for i in range(0, len(experiences), agents)]


EXPORTERS: Mapping[str, Exporter] = {
    "keys in order": Exporter(lambda experience: None),
    "keys sorted": Exporter(_sort_keys),
    "own names, the usual bounds": Exporter(_rename, _own_names(1.0)),
    "own names, gas in [0, 4]": Exporter(lambda experience: _rename(experience, 4.0), _own_names(4.0)),
    "own names, gas in [0, 5]": Exporter(lambda experience: _rename(experience, 5.0), _own_names(5.0)),
    "no log_prob at the bounds, no value": Exporter(_without_log_prob_at_bounds),
    "agent_index 0, fixed order": Exporter(_forget_agents),
    "agent_index 0, any order in a tick": Exporter(_forget_agents, arrange=shuffled_ticks),
    "agent_index 0, agents come and go": Exporter(_forget_agents, arrange=come_and_go),
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("exporters", help="one game as different exporters write it (minutes)", description=__doc__)
    p.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED", help="(0)")
    p.add_argument("--cycles", type=int, default=6, metavar="N", help="cycles per run (6)")
    p.add_argument("--only", nargs="+", choices=EXPORTERS, metavar="NAME", help="only these exporters")
    p.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Print the table of rewards per step."""
    from trainer.common import threads  # here, because it imports torch

    threads.limit_numpy_to_one_thread()  # otherwise the first run computes in several threads, and rounds differently
    threads.set_thread_count(1)
    rows = []
    for name in arguments.only or EXPORTERS:
        curves = [run_cycles(EXPORTERS[name], seed, arguments.cycles) for seed in arguments.seeds]
        means = [statistics.fmean(rewards) for rewards in zip(*curves, strict=True)]
        print(f"{name}: {means}", file=sys.stderr)
        rows.append([name, *(f"{mean:.3f}" for mean in means)])
    print(f"on {machine.in_words(machine.describe())}")
    print("\n".join(table(["exporter", *(f"after {n}" for n in range(arguments.cycles + 1))], rows)))
    return 0


def run_cycles(exporter: Exporter, seed: int, cycles: int) -> list[float]:
    """Return the reward per step before the first cycle and after each."""
    with tempfile.TemporaryDirectory(prefix="hotlap-exporters-") as name:
        loop = _Loop(Path(name), exporter, TrainerSettings(seed=seed, device="cpu"))
        for _ in range(cycles):
            loop.run_cycle()
        loop.collect()
        return loop.rewards


class _Loop:
    """One run's engine, models and rollouts."""

    def __init__(self, folder: Path, exporter: Exporter, settings: TrainerSettings) -> None:
        self._folder, self._exporter, self._settings = folder, exporter, settings
        self._agent = AgentSettings(**exporter.agent)
        self._rng = np.random.default_rng(settings.seed)
        self._engine = Engine(SimulationOptions(project=folder, seed=settings.seed, quiet=True))
        self._cycle = 0
        self.rewards: list[float] = []
        self._last = self._run("initial", ())

    def run_cycle(self) -> None:
        """Collect rollouts and train on them."""
        rollouts = self.collect()
        self._cycle += 1
        self._last = self._run("train", rollouts)

    def collect(self) -> tuple[RolloutInput, ...]:
        """Let the engine write rollouts, change them as the exporter does, and record their reward."""
        engine, model = self._engine, self._folder / f"cycle_{self._cycle}" / self._last.model
        engine.model = load_model(model)
        engine.options = replace(engine.options, rollouts=engine.rollouts + ROLLOUTS)
        before = set(engine.exports.glob("*.json"))
        engine.run()
        inputs, rewards = [], []
        for path in sorted(set(engine.exports.glob("*.json")) - before):
            document = json.loads(path.read_text("utf-8"))
            if self._exporter.arrange is not None:
                document["experiences"] = self._exporter.arrange(document["experiences"], self._rng)
            for experience in document["experiences"]:
                rewards.append(experience["reward"])
                self._exporter.change(experience)
            data = json.dumps(document).encode()
            path.write_bytes(data)
            inputs.append(
                RolloutInput(
                    name=path.name,
                    sha256=sha256_of(data),
                    source=str(path),
                    cache="",
                    is_new=True,
                    behaviours=(str(model),),
                )
            )
        self.rewards.append(statistics.fmean(rewards))
        return tuple(inputs)

    def _run(self, kind: Literal["initial", "train"], rollouts: tuple[RolloutInput, ...]) -> Result:
        from trainer.worker.jobs import run_job

        output = self._folder / f"cycle_{self._cycle}"
        output.mkdir()
        parent = self._folder / f"cycle_{self._cycle - 1}" / self._last.checkpoint if kind == "train" else None
        job = Job(
            kind=kind,
            policy_version=self._cycle,
            output=str(output),
            contract=self._agent.contract(),
            hidden_sizes=self._agent.hidden_sizes,
            settings=self._settings,
            rollouts=rollouts,
            parent=None if parent is None else str(parent),
        )
        return run_job(job, MemoryReporter())
