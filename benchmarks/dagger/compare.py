"""DAgger compared with cloning on as many labels, and with the `imitation` package, on the racing milestones."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.dagger.plot import Curve, picture
from benchmarks.lib import host_info as machine

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "dagger_racing.json"


@dataclass(frozen=True, slots=True)
class MilestoneOutcome:
    """The outcome of one method on one milestone with one seed."""

    method: str
    milestone: str
    seed: int
    success_rate: float  #: over the final episodes
    labels: int
    seconds: float  #: of collecting and training, without start and evaluation
    curve: tuple[tuple[int, float], ...]  #: labels and success rate of each round's evaluation


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("dagger", help="policies from experts: DAgger, cloning, imitation", description=__doc__)
    p.add_argument("--seeds", type=int, default=3, metavar="N", help="number of seeds (3)")
    p.add_argument("--iterations", type=int, default=4, metavar="N", help="number of rounds (4)")
    p.add_argument(
        "--episodes",
        type=int,
        default=1,
        metavar="N",
        help="episodes per round (1); with many, every method succeeds",
    )
    p.add_argument("--steps", type=int, default=300, metavar="N", help="gradient steps per round (300)")
    p.add_argument(
        "--gust",
        type=float,
        default=0.02,
        help="strength of the wind (0.02), which pushes cloning off the path",
    )
    p.add_argument(
        "--milestones", nargs="+", metavar="ID", help="use only these milestones; their start states must exist"
    )
    p.add_argument("--imitation-python", type=Path, metavar="FILE", help="a Python with the package `imitation`")
    p.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "dagger", metavar="DIR")
    p.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Run all methods, print the table, write the plot."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    document = json.loads(CONFIG.read_text(encoding="utf-8"))
    document["env_options"]["gust"] = arguments.gust
    config = arguments.out / "config.json"
    config.write_text(json.dumps(document), encoding="utf-8")
    names = arguments.milestones or [m["id"] for m in document["milestones"]]
    outcomes: list[MilestoneOutcome] = []
    for seed in range(arguments.seeds):
        for method, beta in (("DAgger", "linear"), ("cloning", "constant")):
            outcomes += _pipeline(arguments, config, names, method, beta, seed)
        if arguments.imitation_python:
            for further_rounds in (False, True):
                outcomes += [_imitation(arguments, config, name, seed, further_rounds) for name in names]
    text = table(outcomes)
    print(f"on {machine.in_words(machine.describe())}\n\n{text}")
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    (arguments.out / "dagger.svg").write_text(picture(curves_of(outcomes)), encoding="utf-8")
    return 0


def _pipeline(
    arguments: argparse.Namespace, config: Path, names: Sequence[str], method: str, beta: str, seed: int
) -> list[MilestoneOutcome]:
    """Run the pipeline; in cloning, the expert always acts."""
    out, outcomes = arguments.out / f"{method}_{seed}", []
    common = [sys.executable, "-m", "trainer", "dagger", "--milestone-config", str(config), "--output-dir", str(out)]
    common += ["--policy-dir", str(ROOT / "examples" / "dagger_racing"), "--state-dir", str(arguments.out / "states")]
    common += ["--dagger-iterations", str(arguments.iterations), "--episodes-per-iter", str(arguments.episodes)]
    common += ["--train-steps-per-iter", str(arguments.steps), "--beta-schedule", beta, "--seed", str(seed)]
    common += ["--no-record-video", "--fresh"]
    document = json.loads(config.read_text(encoding="utf-8"))
    others = [m["id"] for m in document["milestones"] if m["id"] not in names]
    if others:
        common += ["--skip-milestones", *others]
    subprocess.run(common, cwd=ROOT, check=False)
    for name in (m["id"] for m in document["milestones"] if m["id"] in names):
        details = json.loads((out / "milestone_details" / f"{name}.json").read_bytes())
        rounds: list[dict[str, Any]] = details["rounds"]
        curve = tuple((int(r["labels"]), float(r["success_rate"])) for r in rounds)
        seconds = sum(float(r["seconds"]) - float(r["evaluation_seconds"]) for r in rounds)
        final = float(details["final"]["success_rate"])
        outcomes.append(MilestoneOutcome(method, name, seed, final, int(rounds[-1]["labels"]), seconds, curve))
    return outcomes


def _imitation(
    arguments: argparse.Namespace, config: Path, name: str, seed: int, further_rounds: bool
) -> MilestoneOutcome:
    """Run the other package on the same environment, in its own Python."""
    method = "imitation, further rounds" if further_rounds else "imitation"
    details = json.loads((arguments.out / f"DAgger_{seed}" / "milestone_details" / f"{name}.json").read_bytes())
    totals = [0, *(r["labels"] for r in details["rounds"])]
    task = {
        "config": str(config), "milestone": name, "seed": seed, "states": str(arguments.out / "states"),
        "limit": details["max_episode_steps"], "episodes": arguments.episodes, "steps": arguments.steps,
        "labels": [after - before for before, after in pairwise(totals)], "further_rounds": further_rounds,
        "final_episodes": details["settings"]["final_eval_episodes"],
    }  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(
        [str(arguments.imitation_python), "-m", "benchmarks.dagger.imitation_reference"],
        input=json.dumps(task), capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"imitation failed after {time.monotonic() - began:.0f} s:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return MilestoneOutcome(method, name, seed, result["success_rate"], result["labels"], result["seconds"], ())


def curves_of(outcomes: Sequence[MilestoneOutcome]) -> dict[str, list[Curve]]:
    """Return the curves of each method that has some."""
    curves: dict[str, list[Curve]] = {}
    for outcome in outcomes:
        if outcome.curve:
            curves.setdefault(outcome.method, []).append(outcome.curve)
    return curves


def table(outcomes: Sequence[MilestoneOutcome]) -> str:
    """Return the means over the seeds, one row per milestone."""
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))
    head = " | ".join(f"{method}: success, labels, s" for method in methods)
    lines = [f"| milestone | {head} |", "|---|" + "---|" * len(methods)]
    for name in [*dict.fromkeys(outcome.milestone for outcome in outcomes), "all"]:
        cells = []
        for way in methods:
            selected = [o for o in outcomes if o.method == way and name in (o.milestone, "all")]
            success, labels, seconds = (
                sum(getattr(o, field) for o in selected) / len(selected)
                for field in ("success_rate", "labels", "seconds")
            )
            cells.append(f"{success:.3f}, {labels:.0f}, {seconds:.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
