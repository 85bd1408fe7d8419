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
from benchmarks.learning.runner import play_all
from benchmarks.learning.scenarios import Scale, Scenario, ScenarioOutcome, ScenarioRun, Way, load, runs_of, save
from benchmarks.lib import doc_tables as page
from benchmarks.lib import host_info as machine
from benchmarks.lib.child_process import ROOT, RunError

PAGE, PICTURE = ROOT / "docs" / "lab" / "learning.md", ROOT / "docs" / "lab" / "learning.svg"
OUT = ROOT / "benchmarks" / "out" / "learning.json"
QUICK_OUT = OUT.with_name("learning-quick.json")
DESCRIPTION = """\
The closed file loop (a daemon process and a simulated engine that share two folders) against Stable-Baselines3's
PPO with VecNormalize in process: same world, steps, agents, hyperparameters and seeds, observations well and badly
scaled, and ours once more with an engine that begins with weights of its own. Compared is the reward per step, with
exploration noise, of one more batch after the last training; ours must reach 0.95 of theirs.
"""
EPILOG = """\
Three seeds take about 40 minutes on 2 cores; --quick gives a first impression in a few.
Runs already in --out are kept where --only, --scales or --seeds leave them out, so a part can be measured again.
Exit codes: 0 ours is good enough everywhere, 1 it is not or a run failed, 2 bad arguments.
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
    p.add_argument("--jobs", type=_at_least(1), default=2, metavar="N", help="runs at a time, one core each (2)")
    p.add_argument("--only", type=Way, nargs="+", default=list(Way), metavar="WAY", help=f"of {', '.join(Way)} (all)")
    p.add_argument(
        "--scales", type=Scale, nargs="+", default=list(Scale), metavar="SCALE", help=f"of {', '.join(Scale)} (all)"
    )
    p.add_argument("--quick", action="store_true", help="only the first seed, and 4 cycles")
    p.add_argument("--out", type=Path, metavar="FILE", help="results (benchmarks/out/learning.json)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a daemon.toml for ours, to try settings; needs --out")
    p.add_argument("--keep", type=Path, metavar="DIR", help="keep the project folders in this folder")
    p.add_argument("--report", action="store_true", help="report the results in --out without running")
    p.add_argument("--write-docs", action="store_true", help="write table and plot to docs/lab/learning.md")
    p.set_defaults(run=lambda given: main(given, p))


def main(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run, report and compare; return the exit code."""
    if given.quick:
        given.seeds, given.cycles = given.seeds[:1], min(given.cycles, 4)
    if given.config is not None and (given.out is None or given.write_docs):
        parser.error("--config is for trials: use another --out, and not --write-docs")
    if given.write_docs and not page.has_markers(PAGE, "learning"):
        begin, end = page.markers("learning")
        parser.error(f"{PAGE.relative_to(ROOT)} has no lines {begin} and {end} to write between")
    given.out = given.out or (QUICK_OUT if given.quick else OUT)
    if find_spec("stable_baselines3") is None and Way.SB3 in given.only and not given.report:
        parser.error("stable-baselines3 is missing: `python scripts/dev.py bench` installs it; or leave out sb3")
    plan = Scenario(cycles=given.cycles, config=given.config.read_text(encoding="utf-8") if given.config else "")
    wanted = runs_of(dict.fromkeys(given.only), dict.fromkeys(given.scales), list(dict.fromkeys(given.seeds)))
    outcomes, saved = load(given.out, plan)
    failed = False
    if not given.report:
        outcomes = {run: outcome for run, outcome in outcomes.items() if run not in wanted}
        failed = not _play(wanted, plan, outcomes, given)
    if not outcomes:
        parser.exit(1, f"no finished run of {plan.cycles} cycles in {given.out}\n")
    comparisons = report.compare(outcomes)
    text = report.markdown(outcomes, plan, saved["machine"] if given.report else machine.describe())
    print(f"\n{text}\n")
    print("\n".join(report.verdicts(comparisons)) or "nothing to compare: both ours and sb3 are needed")
    if given.write_docs:
        _write_docs(outcomes, plan, text, is_complete=not failed and report.is_complete(comparisons))
    return 0 if not failed and all(comparison.passed for comparison in comparisons) else 1


def _play(
    wanted: list[ScenarioRun], plan: Scenario, outcomes: dict[ScenarioRun, ScenarioOutcome], given: argparse.Namespace
) -> bool:
    """Run the missing runs, save after each, and return whether all succeeded."""
    began_s = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.0f} s  {line}", flush=True)

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    say(f"{len(wanted)} runs of {plan.cycles} cycles, {given.jobs} at a time")
    failures, here = 0, machine.describe()
    for run, result in play_all(wanted, plan, jobs=given.jobs, keep=given.keep, say=say):
        if isinstance(result, RunError):
            failures += 1
            print(f"FAILED  {run}: {result}", file=sys.stderr, flush=True)
            continue
        outcomes[run] = result
        comparisons = report.compare(outcomes)
        about = {"machine": here, "comparisons": [c.plain() for c in comparisons]}
        save(given.out, plan, outcomes.values(), about)
        say(f"{run}  ended at {result.final:.3f} after {result.seconds:.0f} s")
        for line in report.verdicts(c for c in comparisons if c.scale is run.scale and run.way in {c.way, Way.SB3}):
            say(f"so far:  {line}")
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
