"""Tables of the stored runs, and the list of the missing ones."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.learn.environments.catalogue import ENVIRONMENTS, REPORT, TUNE
from benchmarks.learn.plot import curves_picture
from benchmarks.learn.runs import FLOOR, REFERENCE, Run, Sizes
from benchmarks.learn.scores import LAST, RunScores, Scale, filled, final, floors, run_scores, scales
from benchmarks.learn.statistics import Estimate, difference, estimate
from benchmarks.learn.store import Record, Store
from benchmarks.lib import host_info as machine
from benchmarks.lib.doc_tables import table

_HEADS = ["contender", "environments", "runs", "area", "final", "final without noise", "steps to PPO's final",
          "area minus PPO's", "trainer CPU s per cycle"]  # fmt: skip
_SECTIONS = {"Environments for tuning": TUNE, "Environments for the report": REPORT}
_NOTES = f"""\
0 is the untrained policy and 1 the final score of Stable-Baselines3's PPO in each environment. Area: mean of the curve
with exploration noise. Final: mean of its last {LAST} cycles; without noise: of the mean policy in {LAST} separate
evaluations. Steps: the first cycle in which a run's score is 1, as part of all cycles; "never" if more than a quarter
of the runs do not get there, in the table of environments more than half of them. Each number of the first table is an
interquartile mean over all runs, with a 95 % interval from a stratified bootstrap."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which stored runs are compared: cycles of one size."""

    contenders: tuple[str, ...]
    sizes: Sizes
    cycles: int | None  #: None: each environment's own number

    def records(self, store: Store, environments: Iterable[str]) -> list[Record]:
        """Return the newest records that belong to the selection; the two scales are always included."""
        contenders, names = {*self.contenders, REFERENCE, FLOOR}, set(environments)
        return [
            record for run, record in store.newest().items() if run.environment in names and self._has(run, contenders)
        ]

    def _has(self, run: Run, contenders: set[str]) -> bool:
        if run.contender not in contenders or run.sizes != self.sizes:
            return False
        return run.contender == FLOOR or run.cycles == (self.cycles or ENVIRONMENTS[run.environment].cycles)


def markdown(store: Store, environments: Iterable[str], selection: Selection) -> str:
    """Return all tables of these environments."""
    wanted = list(environments)
    records = selection.records(store, wanted)
    if not records:
        return "The store has no such run."
    lines = [*_about(records), ""]
    for title, names in _SECTIONS.items():
        chosen = [record for record in records if record.run.environment in names]
        if chosen:
            lines += [f"### {title}", "", *_summary(chosen), "", *_scores_table(chosen), ""]
    return "\n".join([*lines, *_NOTES.splitlines()])


def picture(store: Store, selection: Selection) -> str:
    """Return the curves of all environments as SVG."""
    return curves_picture(selection.records(store, ENVIRONMENTS))


def list_missing(missing: Sequence[Run], store: Store) -> list[str]:
    """Return a line for each missing run with its CPU time, estimated from stored runs, and the total."""
    seconds = [estimated_cpu_s(run, store.records) for run in missing]
    lines = [
        f"{run}  {run.cycles} cycles  {'unknown' if s is None else f'{s / 60:.1f} min'}"
        for run, s in zip(missing, seconds, strict=True)
    ]
    known = [s for s in seconds if s is not None]
    unknown = f", and {len(seconds) - len(known)} runs of unknown time" if len(known) < len(seconds) else ""
    return [*lines, f"{len(missing)} runs are missing: about {sum(known) / 60:.0f} min of CPU time{unknown}"]


def estimated_cpu_s(run: Run, records: Iterable[Record]) -> float | None:
    """Return the CPU seconds of a run from the same contender's stored runs: in its environment, otherwise in any."""
    of_contender = [record for record in records if record.run.contender == run.contender]
    same = [record for record in of_contender if record.run.environment == run.environment]
    per_step = [record.cpu_s / (record.run.cycles * record.run.sizes.batch) for record in same or of_contender]
    return statistics.fmean(per_step) * run.cycles * run.sizes.batch if per_step else None


def _about(records: Sequence[Record]) -> list[str]:
    """Return when, with which code and where the runs were measured."""
    machines = list(dict.fromkeys(machine.in_words(record.machine) for record in records))
    dates, commits = sorted({r.date for r in records}), sorted({r.commit for r in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    sizes = records[0].run.sizes
    code = f"commits {', '.join(commits)}"
    return [
        f"`python -m benchmarks learn`, {len(records)} runs, {when}, {code}; on {'; '.join(machines)}.",
        f"A cycle has {sizes.rollouts} rollouts of {sizes.steps:,} steps of {sizes.agents} agents.",
    ]


def _summary(records: Sequence[Record]) -> list[str]:
    """Return the table over all environments that have both scales."""
    scale_of = scales(records)
    groups = _groups([r for r in records if r.run.environment in scale_of and r.run.contender != FLOOR])
    scores = {name: _by_environment(found, scale_of) for name, found in groups.items()}
    reference = scores.get(REFERENCE, {})
    rows = [_row(name, groups[name], found, reference) for name, found in scores.items()]
    hidden = sorted({r.run.environment for r in records} - set(scale_of))
    notes = [f"- {name}: {_weak(scale)}" for name, scale in scale_of.items() if not scale.is_reference_learning]
    if hidden:
        notes.append(f"- left out, because {FLOOR} or {REFERENCE} was not measured: {', '.join(hidden)}")
    return [*(table(_HEADS, rows) if rows else []), *(["", *notes] if notes else [])]


def _weak(scale: Scale) -> str:
    return f"PPO learns little here; 1 is a score of {scale.floor + scale.unit:.3g}"


def _row(
    name: str,
    records: Sequence[Record],
    scores: dict[str, list[RunScores]],
    reference: dict[str, list[RunScores]],
) -> list[str]:
    measured = [*scores.values(), *(reference[name] for name in scores if name in reference)]
    has_interval = all(len(found) > 1 for found in measured)

    def over(measure: Callable[[RunScores], float]) -> str:
        found = estimate([[measure(s) for s in found] for found in scores.values()])
        return _shown(found, has_interval=has_interval)

    own = [[s.area for s in found] for name, found in scores.items() if name in reference]
    others = [[s.area for s in reference[name]] for name in scores if name in reference]
    seconds = statistics.fmean((r.cpu_s - r.env_cpu_s) / r.run.cycles for r in records)
    return [
        name,
        str(len(scores)),
        str(len(records)),
        over(lambda s: s.area),
        over(lambda s: s.final),
        over(lambda s: s.final_without_noise),
        over(lambda s: s.steps_to_reference),
        "" if name == REFERENCE else _shown(difference(own, others), sign="+", has_interval=has_interval),
        f"{seconds:.1f}",
    ]


def _scores_table(records: Sequence[Record]) -> list[str]:
    """Return the final score and the steps in each environment, in its own measure: means over the runs."""
    scale_of, floor_of, groups = scales(records), floors(records), _groups(records)
    names = [name for name in ENVIRONMENTS if any(r.run.environment == name for r in records)]
    rows = []
    for name in names:
        environment = ENVIRONMENTS[name]
        cells = [f"{name}, {environment.cycles} cycles, {environment.measure}"]
        for group in groups.values():
            found = [r for r in group if r.run.environment == name]
            cells.append(_cell(found, floor_of.get(name), scale_of.get(name)) if found else "")
        rows.append(cells)
    title = f"Final score in each environment's own measure (mean of the last {LAST} cycles; steps to PPO's final):"
    return [title, "", *table(["environment", *groups], rows)]


def _cell(records: Sequence[Record], floor: float | None, scale: Scale | None) -> str:
    curves = [filled(r.curve, _first(r, floor)) for r in records]
    shown = _number(statistics.fmean(final(curve) for curve in curves))
    if scale is None or records[0].run.contender == FLOOR:
        return shown
    steps = statistics.median(run_scores(record, scale).steps_to_reference for record in records)
    return f"{shown} ({'never' if math.isinf(steps) else f'{steps:.2f}'})"


def _first(record: Record, floor: float | None) -> float:
    known = [score for score in record.curve if score is not None]
    return floor if floor is not None else known[0] if known else math.nan


def _groups(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the records by contender and label: the untrained policy and PPO first."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.run.name].append(record)
    first = (FLOOR, REFERENCE)
    return {name: groups[name] for name in (*(n for n in first if n in groups), *sorted(set(groups) - set(first)))}


def _by_environment(records: Iterable[Record], scale_of: dict[str, Scale]) -> dict[str, list[RunScores]]:
    scores: dict[str, list[RunScores]] = defaultdict(list)
    for record in records:
        scores[record.run.environment].append(run_scores(record, scale_of[record.run.environment]))
    return dict(scores)


def _shown(found: Estimate, sign: str = "", *, has_interval: bool = True) -> str:
    """Return the number with its interval, which one run per environment cannot give."""
    value, low, high = (
        "never" if math.isinf(x) else "-" if math.isnan(x) else f"{x:{sign}.2f}"
        for x in (found.value, found.low, found.high)
    )
    return f"**{value}** ({low} to {high})" if has_interval else f"**{value}** (single runs)"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
