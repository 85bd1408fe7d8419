"""Compare the outcomes, and report the comparison as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.learning.scenarios import Scale, Scenario, ScenarioOutcome, ScenarioRun, Way
from benchmarks.lib.doc_tables import table
from benchmarks.lib.host_info import in_words

LEAST_RATIO = 0.95
OBSERVATIONS = {Scale.WELL: "well scaled", Scale.BADLY: "x 30 + 100"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of our ways compared with Stable-Baselines3 at one scale, over the seeds that both have."""

    way: Way
    scale: Scale
    seeds: tuple[int, ...]
    ours: tuple[float, ...]  #: reward per step after the last cycle, one per seed
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The ratio of the means."""
        return statistics.fmean(self.ours) / statistics.fmean(self.theirs)

    @property
    def passed(self) -> bool:
        """Whether our final reward is high enough."""
        return self.ratio >= LEAST_RATIO

    def plain(self) -> dict[str, Any]:
        """Return the document for JSON."""
        return {
            "way": self.way,
            "scale": self.scale,
            "seeds": self.seeds,
            "ours": self.ours,
            "sb3": self.theirs,
            "ours_mean": statistics.fmean(self.ours),
            "sb3_mean": statistics.fmean(self.theirs),
            "ours_deviation": deviation(self.ours),
            "sb3_deviation": deviation(self.theirs),
            "ratio": self.ratio,
            "passed": self.passed,
        }


def compare(outcomes: Mapping[ScenarioRun, ScenarioOutcome]) -> list[Comparison]:
    """Return the comparisons for which both sides have outcomes."""
    found = []
    for scale in Scale:
        for way in (Way.OURS, Way.OWN):
            played = {run.seed for run in outcomes if (run.way, run.scale) == (way, scale)}
            seeds = tuple(sorted(seed for seed in played if ScenarioRun(Way.SB3, scale, seed) in outcomes))
            if seeds:
                ours = tuple(outcomes[ScenarioRun(way, scale, seed)].final for seed in seeds)
                theirs = tuple(outcomes[ScenarioRun(Way.SB3, scale, seed)].final for seed in seeds)
                found.append(Comparison(way, scale, seeds, ours, theirs))
    return found


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation over the seeds; 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def verdicts(comparisons: Iterable[Comparison]) -> list[str]:
    """Return one line per comparison for the terminal."""
    return [
        f"{c.way:<11} {c.scale:<5} seeds {' '.join(map(str, c.seeds))}:"
        f"  ours {_spread(c.ours)}  sb3 {_spread(c.theirs)}  ratio {c.ratio:.3f}  {_verdict(c)}"
        for c in comparisons
    ]


def is_complete(comparisons: Sequence[Comparison]) -> bool:
    """Return whether both ways were compared at both scales, over the same seeds."""
    return len(comparisons) == 4 and len({comparison.seeds for comparison in comparisons}) == 1


def markdown(outcomes: Mapping[ScenarioRun, ScenarioOutcome], plan: Scenario, machine: dict[str, str | int]) -> str:
    """Return both tables, with what is needed to reproduce them."""
    seeds = " ".join(map(str, sorted({run.seed for run in outcomes})))
    command = f"python -m benchmarks learning --seeds {seeds} --cycles {plan.cycles}"
    dates = sorted({outcome.date for outcome in outcomes.values()})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    lines = [
        f"`{command}`, {when}, on {in_words(machine)}.",
        f"{plan.cycles} updates of {plan.batch:,} steps, {plan.agents} agents.",
        "",
        *_final_table(compare(outcomes)),
        "",
        "Mean over the seeds after each cycle; cycle 0 is before any training:",
        "",
        *_curve_table(outcomes, plan),
    ]
    return "\n".join(lines)


def _final_table(comparisons: Sequence[Comparison]) -> list[str]:
    seeds = ", ".join(map(str, comparisons[0].seeds)) if comparisons else ""
    of_ours, of_theirs = f"Hotlap, seeds {seeds}", f"Stable-Baselines3, seeds {seeds}"
    heads = [
        "observations",
        "engine begins with",
        of_ours,
        "mean",
        of_theirs,
        "mean",
        "ratio",
        f"at least {LEAST_RATIO}",
    ]
    rows = []
    for c in comparisons:
        start = "weights of its own" if c.way is Way.OWN else "version 0"
        cells = [OBSERVATIONS[c.scale], start, _each(c.ours), _spread(c.ours), _each(c.theirs), _spread(c.theirs)]
        rows.append([*cells, f"**{c.ratio:.3f}**", _verdict(c)])
    return table(heads, rows)


def _curve_table(outcomes: Mapping[ScenarioRun, ScenarioOutcome], plan: Scenario) -> list[str]:
    groups: dict[str, list[ScenarioOutcome]] = {}
    for scale in Scale:
        for way in Way:
            if chosen := [o for run, o in outcomes.items() if (run.way, run.scale) == (way, scale)]:
                groups[f"{way.label}, {OBSERVATIONS[scale]}"] = chosen
    rows = []
    for k in range(plan.cycles + 1):
        means = (statistics.fmean(o.curve[k] for o in group) for group in groups.values())
        rows.append([str(k), *(f"{mean:.3f}" for mean in means)])
    return table(["cycle", *groups], rows)


def _each(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {deviation(values):.3f}"


def _verdict(comparison: Comparison) -> str:
    return "yes" if comparison.passed else "**no**"
