"""The learning benchmark's runs, sizes and outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

SCHEMA = "hotlap.benchmark.learning/1"


class Method(StrEnum):
    """A method of learning."""

    SB3 = "sb3"  #: Stable-Baselines3's PPO with VecNormalize, in one process
    OURS = "ours"  #: engine, two folders, daemon
    OWN = "own-weights"  #: the same with an engine that starts with its own weights and ignores version 0

    @property
    def label(self) -> str:
        """Return the name in tables and plots."""
        return {
            Method.SB3: "Stable-Baselines3",
            Method.OURS: "Hotlap",
            Method.OWN: "Hotlap, engine with own weights",
        }[self]


class Scale(StrEnum):
    """The scale of the observations."""

    WELL = "well"
    BADLY = "badly"

    @property
    def factor_and_shift(self) -> tuple[float, float]:
        """Return (factor, shift): observations are x * factor + shift."""
        return {Scale.WELL: (1.0, 0.0), Scale.BADLY: (30.0, 100.0)}[self]


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """One training run from scratch."""

    method: Method
    scale: Scale
    seed: int

    def __str__(self) -> str:
        return f"{self.method:<11} {self.scale:<5} seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """The size of a run: `cycles` cycles, and one more batch that is not trained on."""

    cycles: int = 16
    agents: int = 32
    rollouts: int = 10  #: per batch
    steps: int = 2048  #: per rollout, of all agents together
    config: str = ""  #: text of a daemon.toml for Hotlap; empty = the defaults

    @property
    def batch(self) -> int:
        """Return the number of experiences of one batch."""
        return self.rollouts * self.steps


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    """The outcome of a run."""

    run: ScenarioRun
    curve: tuple[float, ...]  #: reward per step of each batch; entry k is after k cycles
    seconds: float
    date: str
    details: list[dict[str, Any]] = field(default_factory=list)  #: Hotlap: the history of cycles, and warnings

    @property
    def final(self) -> float:
        """Return the reward per step after the last cycle."""
        return self.curve[-1]


def runs_of(methods: Iterable[Method], scales: Iterable[Scale], seeds: Sequence[int]) -> list[ScenarioRun]:
    """Return all combinations; all methods with the first seed come before those with the second one."""
    scales, methods = list(scales), list(methods)
    return [ScenarioRun(way, scale, seed) for seed in seeds for scale in scales for way in methods]


def save(path: Path, plan: Scenario, outcomes: Iterable[ScenarioOutcome], about: dict[str, Any]) -> None:
    """Write the document, replacing an older one atomically."""
    document = {"schema": SCHEMA, **about, "plan": asdict(plan), "runs": [_plain(o) for o in outcomes]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def load(path: Path, plan: Scenario) -> tuple[dict[ScenarioRun, ScenarioOutcome], dict[str, Any]]:
    """Return the outcomes that were saved for this plan, and the document; both are empty if none was saved."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or Scenario(**document["plan"]) != plan:
            return {}, {}
        outcomes = [_outcome(entry) for entry in document["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}
    return {outcome.run: outcome for outcome in outcomes}, document


def _plain(outcome: ScenarioOutcome) -> dict[str, Any]:
    entry = asdict(outcome)
    return {**entry.pop("run"), "final": outcome.final, **entry}


def _outcome(entry: dict[str, Any]) -> ScenarioOutcome:
    run = ScenarioRun(Method(entry["method"]), Scale(entry["scale"]), int(entry["seed"]))
    return ScenarioOutcome(run, tuple(entry["curve"]), entry["seconds"], entry["date"], entry["details"])
