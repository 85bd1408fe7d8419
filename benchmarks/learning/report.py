"""Compare the outcomes, and report the comparison as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.learning.scenarios import Method, Scale, Scenario, ScenarioOutcome, ScenarioRun
from benchmarks.lib.doc_tables import table
from benchmarks.lib.host_info import in_words

MIN_RATIO = 0.95
OBSERVATIONS = {Scale.WELL: "well scaled", Scale.BADLY: "x 30 + 100"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One method of Hotlap compared with Stable-Baselines3 at one scale, over the seeds of both."""

    method: Method
    scale: Scale
    seeds: tuple[int, ...]
    hotlap: tuple[float, ...]  #: reward per step after the last cycle, one per seed
    sb3: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return the ratio of the means."""
        return statistics.fmean(self.hotlap) / statistics.fmean(self.sb3)

    @property
    def passed(self) -> bool:
        """Return whether Hotlap's final reward is high enough."""
        return self.ratio >= MIN_RATIO

    def plain(self) -> dict[str, Any]:
        """Return the document for JSON."""
        return {
            "method": self.method,
            "scale": self.scale,
            "seeds": self.seeds,
            "ours": self.hotlap,
            "sb3": self.sb3,
            "ours_mean": statistics.fmean(self.hotlap),
            "sb3_mean": statistics.fmean(self.sb3),
            "ours_deviation": deviation(self.hotlap),
            "sb3_deviation": deviation(self.sb3),
            "ratio": self.ratio,
            "passed": self.passed,
        }


def compare(outcomes: Mapping[ScenarioRun, ScenarioOutcome]) -> list[Comparison]:
    """Return the comparisons for which both have outcomes."""
    found = []
    for scale in Scale:
        for way in (Method.OURS, Method.OWN):
            run_seeds = {run.seed for run in outcomes if (run.method, run.scale) == (way, scale)}
            seeds = tuple(sorted(seed for seed in run_seeds if ScenarioRun(Method.SB3, scale, seed) in outcomes))
            if seeds:
                hotlap = tuple(outcomes[ScenarioRun(way, scale, seed)].final for seed in seeds)
                sb3 = tuple(outcomes[ScenarioRun(Method.SB3, scale, seed)].final for seed in seeds)
                found.append(Comparison(way, scale, seeds, hotlap, sb3))
    return found


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation over the seeds; 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def verdicts(comparisons: Iterable[Comparison]) -> list[str]:
    """Return one line per comparison for the terminal."""
    return [
        f"{c.method:<11} {c.scale:<5} seeds {' '.join(map(str, c.seeds))}:"
        f"  ours {_spread(c.hotlap)}  sb3 {_spread(c.sb3)}  ratio {c.ratio:.3f}  {_verdict(c)}"
        for c in comparisons
    ]


def is_complete(comparisons: Sequence[Comparison]) -> bool:
    """Return whether both methods were compared at both scales, over the same seeds."""
    return len(comparisons) == 4 and len({comparison.seeds for comparison in comparisons}) == 1


def markdown(outcomes: Mapping[ScenarioRun, ScenarioOutcome], plan: Scenario, machine: dict[str, str | int]) -> str:
    """Return both tables, with the command that reproduces them."""
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
    hotlap_head, sb3_head = f"Hotlap, seeds {seeds}", f"Stable-Baselines3, seeds {seeds}"
    heads = [
        "observations",
        "engine starts with",
        hotlap_head,
        "mean",
        sb3_head,
        "mean",
        "ratio",
        f"at least {MIN_RATIO}",
    ]
    rows = []
    for c in comparisons:
        start = "its own weights" if c.method is Method.OWN else "version 0"
        cells = [OBSERVATIONS[c.scale], start, _each(c.hotlap), _spread(c.hotlap), _each(c.sb3), _spread(c.sb3)]
        rows.append([*cells, f"**{c.ratio:.3f}**", _verdict(c)])
    return table(heads, rows)


def _curve_table(outcomes: Mapping[ScenarioRun, ScenarioOutcome], plan: Scenario) -> list[str]:
    groups: dict[str, list[ScenarioOutcome]] = {}
    for scale in Scale:
        for way in Method:
            if chosen := [o for run, o in outcomes.items() if (run.method, run.scale) == (way, scale)]:
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
