"""Learners compared in steps of experience: `python -m benchmarks learn --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.learn import report
from benchmarks.learn.contenders.settings import check_overrides, parse_overrides
from benchmarks.learn.environments.catalogue import ENVIRONMENTS, REPORT, TUNE
from benchmarks.learn.runner import execute_all
from benchmarks.learn.runs import CONTENDERS, DEFAULT_LABEL, HOTLAP, Run, Sizes, plan_runs, seed_pairs
from benchmarks.learn.store import STORE, Store
from benchmarks.lib import doc_tables as page
from benchmarks.lib.child_process import ROOT, RunError
from benchmarks.lib.progress import progress_printer

PAGE, PICTURE, MARKER = ROOT / "docs" / "lab" / "learning.md", ROOT / "docs" / "lab" / "learn.svg", "learn"
HALVES = {"tune": TUNE, "report": REPORT, "all": tuple(ENVIRONMENTS)}
DESCRIPTION = """\
Compares learners by what they earn from the same number of steps: Hotlap through files and online, with any settings,
and Stable-Baselines3's PPO, SAC and TD3, CrossQ, and a TD3 whose policy is exchanged only once per cycle. A cycle has
5 rollouts of 1,024 steps of 8 agents. Each run is stored when it ends, and is not measured again.
"""
EPILOG = """\
examples:
  python -m benchmarks learn --seeds 0 1 2                        measure Hotlap and PPO in the half for tuning
  python -m benchmarks learn --contenders hotlap-v2 --set trainer.epochs=20 --label "20 epochs"
  python -m benchmarks learn --environments racing Pendulum-v1 --contenders hotlap-v1 hotlap-v2 sb3-td3-files
  python -m benchmarks learn --half all --list                    what is missing, and how much CPU time it takes
  python -m benchmarks learn --cpu-minutes 30                     start no run after 30 minutes of CPU time
  python -m benchmarks learn --report                             tables of all runs in the store
  python -m benchmarks learn --half all --write-docs              the same in docs/lab/learning.md, with a picture

Settings are chosen in the half for tuning. The other half shows whether a choice holds elsewhere: measure it only for
a report. CrossQ is the torch version of sb3-contrib: sbx, the authors' one, needs jax, and computes the same updates.
Exit codes: 0 all runs are stored, 1 a run failed, 2 bad arguments.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser(
        "learn",
        help="learners compared in steps, over many environments and seeds (hours; resumes)",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(CONTENDERS)
    p.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        metavar="NAME",
        help=f"of {names} (untrained, sb3-ppo and hotlap-v2)",
    )
    p.add_argument(
        "--half", choices=HALVES, default="tune", help="environments for tuning, for the report, or all (tune)"
    )
    p.add_argument(
        "--environments",
        nargs="+",
        choices=ENVIRONMENTS,
        metavar="NAME",
        help=f"these environments instead of a half: {', '.join(ENVIRONMENTS)}",
    )
    p.add_argument("--seeds", type=_at_least(0), nargs="+", default=[0, 1, 2, 3, 4], metavar="S", help="(0 1 2 3 4)")
    p.add_argument(
        "--env-seeds", type=_at_least(0), nargs="+", metavar="S", help="environment seeds, one for each seed (the same)"
    )
    p.add_argument("--crossed", action="store_true", help="every seed with every environment seed")
    p.add_argument(
        "--set", action="append", default=[], metavar="GROUP.NAME=VALUE", help="a setting of Hotlap; can be repeated"
    )
    p.add_argument("--label", metavar="TEXT", help="name of Hotlap's settings or code in the store (the settings)")
    p.add_argument("--cycles", type=_at_least(1), metavar="N", help="cycles per run (each environment's own number)")
    p.add_argument("--rollouts", type=_at_least(1), default=Sizes().rollouts, metavar="N", help="per cycle (5)")
    p.add_argument("--steps", type=_at_least(1), default=Sizes().steps, metavar="N", help="per rollout (1024)")
    p.add_argument("--agents", type=_at_least(1), default=Sizes().agents, metavar="N", help="(8)")
    p.add_argument("--jobs", type=_at_least(1), default=1, metavar="N", help="runs at the same time, one core each (1)")
    p.add_argument("--nice", type=int, default=19, metavar="N", help="priority: 19 uses idle time only (19)")
    p.add_argument("--cpu-minutes", type=float, metavar="X", help="start no run after this CPU time of all runs")
    p.add_argument("--again", action="store_true", help="measure runs that are stored once more; the newest counts")
    p.add_argument("--list", action="store_true", help="list the missing runs and their CPU time, and measure nothing")
    p.add_argument("--report", action="store_true", help="print the tables of the stored runs, and measure nothing")
    p.add_argument("--write-docs", action="store_true", help="write the tables and a picture to docs/lab")
    p.add_argument("--store", type=Path, default=STORE, metavar="FILE", help="(benchmarks/results/learn.jsonl)")
    p.set_defaults(run=lambda arguments: main(arguments, p))


def main(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """List, measure or report; return the exit code."""
    try:
        runs = _plan(arguments)
    except ValueError as error:
        parser.error(str(error))
    if arguments.write_docs and not page.has_markers(PAGE, MARKER):
        parser.error(f"{PAGE.relative_to(ROOT)} does not contain the lines {' and '.join(page.markers(MARKER))}")
    store = Store(arguments.store)
    if store.skipped:
        print(f"{arguments.store}: {store.skipped} lines cannot be read and are skipped", file=sys.stderr)
    if (clash := _clash(runs, store)) is not None:
        parser.error(f"the store has runs with the label {clash!r} and other settings: use another --label")
    failed = 0
    missing = runs if arguments.again else store.missing(runs)
    if arguments.list:
        print("\n".join(report.list_missing(missing, store)))
        return 0
    if not (arguments.report or arguments.write_docs):
        failed = _measure(missing, runs, store, arguments)
    text = report.markdown(store, arguments.environments or HALVES[arguments.half], _selection(arguments))
    print(text)
    if arguments.write_docs:
        page.write_between(PAGE, MARKER, text)
        PICTURE.write_text(report.picture(store, _selection(arguments)), encoding="utf-8", newline="\n")
        print(f"wrote {PAGE.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(missing: Sequence[Run], runs: Sequence[Run], store: Store, arguments: argparse.Namespace) -> int:
    if lacking := _lacking(missing):
        raise RunError(f"{', '.join(lacking)} missing: `python scripts/dev.py bench` installs them")
    signal.signal(signal.SIGTERM, _stop)
    print_progress = progress_printer("learn")
    print_progress(f"{len(missing)} runs to measure, {len(set(runs)) - len(set(missing))} are stored")
    budget_s = None if arguments.cpu_minutes is None else 60.0 * arguments.cpu_minutes
    jobs, nice = arguments.jobs, arguments.nice
    return execute_all(missing, store, jobs=jobs, nice=nice, print_progress=print_progress, budget_s=budget_s)


def _lacking(runs: Sequence[Run]) -> list[str]:
    """Return the modules that the runs need and that are not installed."""
    needed = {ENVIRONMENTS[run.environment].needs for run in runs}
    needed |= {"stable_baselines3" for run in runs if run.contender.startswith("sb3-")}
    needed |= {"sb3_contrib" for run in runs if run.contender == "crossq"}
    return sorted(name for name in needed if name and find_spec(name) is None)


def _plan(arguments: argparse.Namespace) -> list[Run]:
    """Return the runs that the flags name. Raises ValueError."""
    settings = parse_overrides(arguments.set)
    check_overrides(settings)
    label = arguments.label or ", ".join(f"{n.removeprefix('trainer.')}={t}" for n, t in settings) or DEFAULT_LABEL
    if settings and label == DEFAULT_LABEL:
        raise ValueError(f"the label {DEFAULT_LABEL!r} is that of the settings without --set: use another --label")
    contenders = arguments.contenders or ["untrained", "sb3-ppo", "hotlap-v2"]
    names = arguments.environments or HALVES[arguments.half]
    environments = [(n, arguments.cycles or ENVIRONMENTS[n].cycles, ENVIRONMENTS[n].is_discrete) for n in names]
    env_seeds = arguments.env_seeds or arguments.seeds
    pairs = seed_pairs(arguments.seeds, env_seeds, crossed=arguments.crossed)
    sizes = _sizes(arguments)
    return plan_runs(contenders, environments, pairs, label=label, settings=settings, sizes=sizes)


def _sizes(arguments: argparse.Namespace) -> Sizes:
    if arguments.steps % arguments.agents:
        raise ValueError(f"a rollout of {arguments.steps} steps cannot be shared by {arguments.agents} agents")
    return Sizes(arguments.rollouts, arguments.steps, arguments.agents)


def _selection(arguments: argparse.Namespace) -> report.Selection:
    names = {**CONTENDERS} if arguments.contenders is None else dict.fromkeys(arguments.contenders)
    return report.Selection(tuple(names), _sizes(arguments), arguments.cycles)


def _clash(runs: Sequence[Run], store: Store) -> str | None:
    """Return a label that the store has with other settings."""
    known = {(record.run.label, record.run.settings) for record in store.records if record.run.contender in HOTLAP}
    labels = {label for label, _ in known}
    wanted = {(run.label, run.settings) for run in runs if run.contender in HOTLAP}
    return next((label for label, settings in wanted if label in labels and (label, settings) not in known), None)


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _at_least(low: int) -> Callable[[str], int]:
    def number(text: str) -> Any:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}")
        return value

    return number
