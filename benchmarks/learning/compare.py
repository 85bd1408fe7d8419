"""Learning through files compared with PPO in one process: `python -m benchmarks learning --help`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from benchmarks.learning import plot as curves
from benchmarks.learning import report
from benchmarks.learning.runner import run_all
from benchmarks.learning.scenarios import Method, Scale, Scenario, ScenarioOutcome, ScenarioRun, load, runs_of, save
from benchmarks.lib import doc_tables as page
from benchmarks.lib import host_info as machine
from benchmarks.lib.child_process import ROOT, RunError

PAGE, PICTURE = ROOT / "docs" / "lab" / "learning.md", ROOT / "docs" / "lab" / "learning.svg"
OUT = ROOT / "benchmarks" / "out" / "learning.json"
QUICK_OUT = OUT.with_name("learning-quick.json")
DESCRIPTION = """\
The closed file loop (a daemon process and a simulated engine that share two folders) against Stable-Baselines3's
PPO with VecNormalize in one process: same environment, steps, agents, hyperparameters and seeds, with well and badly
scaled observations. Hotlap also runs with an engine that starts with its own weights. The result is the reward per
step, with exploration noise, of one more batch after the last training; Hotlap's must be at least 0.95 of SB3's.
"""
EPILOG = """\
Three seeds take about 40 minutes on 2 cores; --quick takes a few minutes.
Runs in --out that --only, --scales or --seeds do not select are kept, so parts can be measured again.
Exit codes: 0 Hotlap is good enough in all cases, 1 it is not or a run failed, 2 bad arguments.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser(
        "learning",
        help="learning through files compared with Stable-Baselines3",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--seeds", type=_at_least(0), nargs="+", default=[0, 1, 2], metavar="S", help="(0 1 2)")
    p.add_argument("--cycles", type=_at_least(1), default=16, metavar="N", help="cycles per run (16)")
    p.add_argument("--jobs", type=_at_least(1), default=2, metavar="N", help="runs at the same time, one core each (2)")
    p.add_argument(
        "--only", type=Method, nargs="+", default=list(Method), metavar="METHOD", help=f"of {', '.join(Method)} (all)"
    )
    p.add_argument(
        "--scales", type=Scale, nargs="+", default=list(Scale), metavar="SCALE", help=f"of {', '.join(Scale)} (all)"
    )
    p.add_argument("--quick", action="store_true", help="use only the first seed and 4 cycles")
    p.add_argument("--out", type=Path, metavar="FILE", help="results (benchmarks/out/learning.json)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a daemon.toml for Hotlap, to try settings; needs --out")
    p.add_argument("--keep", type=Path, metavar="DIR", help="keep the project folders in this folder")
    p.add_argument("--report", action="store_true", help="report the results in --out without running")
    p.add_argument("--write-docs", action="store_true", help="write table and plot to docs/lab/learning.md")
    p.set_defaults(run=lambda arguments: main(arguments, p))


def main(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run, report and compare; return the exit code."""
    if arguments.quick:
        arguments.seeds, arguments.cycles = arguments.seeds[:1], min(arguments.cycles, 4)
    if arguments.config is not None and (arguments.out is None or arguments.write_docs):
        parser.error("--config is for trials: use another --out, and not --write-docs")
    if arguments.write_docs and not page.has_markers(PAGE, "learning"):
        begin, end = page.markers("learning")
        parser.error(f"{PAGE.relative_to(ROOT)} does not contain the lines {begin} and {end}")
    arguments.out = arguments.out or (QUICK_OUT if arguments.quick else OUT)
    if find_spec("stable_baselines3") is None and Method.SB3 in arguments.only and not arguments.report:
        parser.error("stable-baselines3 is missing: `python scripts/dev.py bench` installs it; or leave out sb3")
    plan = Scenario(
        cycles=arguments.cycles, config=arguments.config.read_text(encoding="utf-8") if arguments.config else ""
    )
    requested = runs_of(
        dict.fromkeys(arguments.only), dict.fromkeys(arguments.scales), list(dict.fromkeys(arguments.seeds))
    )
    outcomes, saved = load(arguments.out, plan)
    failed = False
    if not arguments.report:
        outcomes = {run: outcome for run, outcome in outcomes.items() if run not in requested}
        failed = not _run_missing(requested, plan, outcomes, arguments)
    if not outcomes:
        parser.exit(1, f"no finished run of {plan.cycles} cycles in {arguments.out}\n")
    comparisons = report.compare(outcomes)
    text = report.markdown(outcomes, plan, saved["machine"] if arguments.report else machine.describe())
    print(f"\n{text}\n")
    print("\n".join(report.verdicts(comparisons)) or "nothing to compare: both Hotlap and sb3 are needed")
    if arguments.write_docs:
        _write_docs(outcomes, plan, text, is_complete=not failed and report.is_complete(comparisons))
    return 0 if not failed and all(comparison.passed for comparison in comparisons) else 1


def _run_missing(
    requested: list[ScenarioRun],
    plan: Scenario,
    outcomes: dict[ScenarioRun, ScenarioOutcome],
    arguments: argparse.Namespace,
) -> bool:
    """Run the missing runs, save after each, and return whether all succeeded."""
    began_s = time.monotonic()

    def print_progress(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.0f} s  {line}", flush=True)

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    print_progress(f"{len(requested)} runs of {plan.cycles} cycles, {arguments.jobs} at a time")
    failures, host = 0, machine.describe()
    for run, result in run_all(
        requested, plan, jobs=arguments.jobs, keep=arguments.keep, print_progress=print_progress
    ):
        if isinstance(result, RunError):
            failures += 1
            print(f"FAILED  {run}: {result}", file=sys.stderr, flush=True)
            continue
        outcomes[run] = result
        comparisons = report.compare(outcomes)
        about = {"machine": host, "comparisons": [c.plain() for c in comparisons]}
        save(arguments.out, plan, outcomes.values(), about)
        print_progress(f"{run}  ended at {result.final:.3f} after {result.seconds:.0f} s")
        for line in report.verdicts(
            c for c in comparisons if c.scale is run.scale and run.method in {c.method, Method.SB3}
        ):
            print_progress(f"so far:  {line}")
    return not failures


def _write_docs(outcomes: dict[ScenarioRun, ScenarioOutcome], plan: Scenario, text: str, *, is_complete: bool) -> None:
    if not is_complete:
        print("docs are not changed: the benchmark is not complete", file=sys.stderr)
        return
    page.write_between(PAGE, "learning", text)
    PICTURE.write_text(curves.picture(list(outcomes.values())), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")


def _at_least(low: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, not {value}")
        return value

    return whole_number
