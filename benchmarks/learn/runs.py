"""The runs of the learn benchmark: which contender, in which environment, with which seeds and settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

HOTLAP = {"hotlap-v1": "v1", "hotlap-v2": "v2", "hotlap-online": "online"}
"""Hotlap's contenders, with the way in which they get their experiences."""
CONTENDERS: dict[str, str] = {
    "hotlap-v1": "Hotlap through files of version 1",
    "hotlap-v2": "Hotlap through files of version 2",
    "hotlap-online": "Hotlap without files, `hotlap online`",
    "sb3-ppo": "Stable-Baselines3's PPO with the zoo's hyperparameters",
    "sb3-sac": "Stable-Baselines3's SAC with the zoo's hyperparameters",
    "sb3-td3": "Stable-Baselines3's TD3 with the zoo's hyperparameters",
    "crossq": "CrossQ of sb3-contrib with the zoo's hyperparameters",
    "sb3-td3-files": "Stable-Baselines3's TD3, whose policy is exchanged only once per cycle",
    "untrained": "Hotlap's version 0, never trained",
}
OFF_POLICY = ("sb3-sac", "sb3-td3", "crossq", "sb3-td3-files")
"""Contenders that need continuous actions."""
REFERENCE, FLOOR = "sb3-ppo", "untrained"
"""The contenders whose scores are 1 and 0 in every environment."""
DEFAULT_LABEL = "default"
FLOOR_CYCLES = 3  #: of an untrained run, whose policy does not change


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of a cycle: the same number of steps for every contender."""

    rollouts: int = 5  #: files per cycle
    steps: int = 1024  #: per file, of all agents together
    agents: int = 8

    @property
    def batch(self) -> int:
        """Return the steps of one cycle, of all agents together."""
        return self.rollouts * self.steps


@dataclass(frozen=True, slots=True)
class Run:
    """One training run from scratch. Equal runs give equal curves, and are measured once."""

    contender: str
    label: str  #: names the settings, or a version of the code, in the tables
    settings: tuple[tuple[str, str], ...]  #: overrides of Hotlap's settings, name and text, sorted
    environment: str
    cycles: int
    sizes: Sizes
    trainer_seed: int
    env_seed: int

    def __str__(self) -> str:
        return f"{self.name:<24} {self.environment:<25} seeds {self.trainer_seed}/{self.env_seed}"

    @property
    def name(self) -> str:
        """Return the contender with its label, for tables."""
        return self.contender if self.label == DEFAULT_LABEL else f"{self.contender} {self.label}"

    def plain(self) -> dict[str, Any]:
        """Return the document for JSON."""
        return asdict(self) | {"settings": dict(self.settings)}

    @classmethod
    def from_plain(cls, document: dict[str, Any]) -> Self:
        """Return the run that `plain` described. Raises KeyError, TypeError or ValueError."""
        settings = tuple(sorted((str(name), str(text)) for name, text in document["settings"].items()))
        return cls(**(document | {"settings": settings, "sizes": Sizes(**document["sizes"])}))


def seed_pairs(seeds: Sequence[int], env_seeds: Sequence[int], *, crossed: bool) -> list[tuple[int, int]]:
    """Return (trainer seed, environment seed): all combinations if crossed, else the first with the first, and so on.

    Raises ValueError if pairs are wanted and the numbers of seeds differ.
    """
    if crossed:
        return [(seed, env_seed) for seed in seeds for env_seed in env_seeds]
    if len(seeds) != len(env_seeds):
        raise ValueError(f"{len(seeds)} trainer seeds cannot be paired with {len(env_seeds)} environment seeds")
    return list(zip(seeds, env_seeds, strict=True))


def plan_runs(
    contenders: Iterable[str],
    environments: Iterable[tuple[str, int, bool]],
    pairs: Sequence[tuple[int, int]],
    *,
    label: str = DEFAULT_LABEL,
    settings: Iterable[tuple[str, str]] = (),
    sizes: Sizes | None = None,
) -> list[Run]:
    """Return the runs; those of the first seeds come first, so that an early stop leaves complete comparisons.

    `environments` are (name, cycles, whether actions are discrete). Label and settings are only for Hotlap.
    """
    contenders, environments, chosen = list(contenders), list(environments), tuple(sorted(settings))
    runs = []
    for trainer_seed, env_seed in pairs:
        for name, cycles, is_discrete in environments:
            for contender in contenders:
                if is_discrete and contender in OFF_POLICY:
                    continue
                own = (label, chosen) if contender in HOTLAP else (DEFAULT_LABEL, ())
                count = FLOOR_CYCLES if contender == FLOOR else cycles
                runs.append(Run(contender, *own, name, count, sizes or Sizes(), trainer_seed, env_seed))
    return runs
