"""The five racing milestones from scratch, timed, and every policy compared with its expert on the same episodes.

--milestone-config selects the milestones of another game, --evaluate-only an existing run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib import host_info as machine

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "dagger_racing.json"
MAX_S = 300.0
MIN_RATIO = 0.95


@dataclass(frozen=True, slots=True)
class Pair:
    """An expert and its policy on the same episodes."""

    milestone: str
    expert: float  #: success rate
    policy: float

    def is_good_enough(self) -> bool:
        """Return whether the policy is nearly as good as the expert."""
        return self.policy >= MIN_RATIO * self.expert


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("dagger-show", help="five racing milestones, timed and evaluated", description=__doc__)
    p.add_argument(
        "--milestone-config", type=Path, default=CONFIG, metavar="FILE", help="the milestones (dagger_racing.json)"
    )
    p.add_argument("--evaluate-only", action="store_true", help="evaluate the run in --out; without a time limit")
    p.add_argument("--jobs", type=int, default=2, metavar="N", help="milestones at the same time (2)")
    p.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "dagger_show", metavar="DIR")
    p.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Run the pipeline; return 0 if it took less than MAX_S and every policy is nearly as good as its expert."""
    elapsed_s = 0.0
    if not arguments.evaluate_only:
        shutil.rmtree(arguments.out, ignore_errors=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "trainer", "dagger", "--milestone-config", str(arguments.milestone_config)]
        command += [
            "--jobs",
            str(arguments.jobs),
            "--output-dir",
            str(arguments.out),
            "--state-dir",
            str(arguments.out / "states"),
        ]
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            return code
        elapsed_s = time.monotonic() - began
    pairs = evaluate_experts(arguments.out, arguments.milestone_config)
    print(f"on {machine.in_words(machine.describe())}")
    if elapsed_s:
        limit = f"the limit for five is {MAX_S:.0f} s"
        print(f"{elapsed_s:.0f} s for {len(pairs)} milestones with --jobs {arguments.jobs}; {limit}")
    print()
    print("| milestone | expert | policy | enough |\n|---|---|---|---|")
    for pair in pairs:
        print(
            f"| {pair.milestone} | {pair.expert:.2f} | {pair.policy:.2f} | {'yes' if pair.is_good_enough() else 'NO'} |"
        )
    return 0 if elapsed_s < MAX_S and all(pair.is_good_enough() for pair in pairs) else 1


def evaluate_experts(out: Path, config_file: Path) -> list[Pair]:
    """Run every expert on the episodes, and with the step limit, of its policy's final evaluation."""
    from trainer.common.rng import key_for
    from trainer.dagger.environment.creation import open_environments
    from trainer.dagger.expert.client import Expert
    from trainer.dagger.milestones import read_config
    from trainer.dagger.training.episodes import EpisodeSpec, EpisodeStatistics, run_expert

    config = read_config(config_file)
    [env] = open_environments(config, 1)
    pairs = []
    for milestone in config.milestones:
        details = json.loads((out / "milestone_details" / f"{milestone.id}.json").read_bytes())
        settings, name = details["settings"], milestone.start_state_name()
        start = (out / "states" / name).read_bytes() if name else None
        spec = EpisodeSpec(milestone.id, start, details["max_episode_steps"])
        episodes = []
        path = ROOT / str(config.policy_dir) / f"{milestone.id}.py"
        with Expert(path, env.actions, call_timeout_s=20.0) as expert:
            for k in range(settings["final_eval_episodes"]):
                seed = key_for(settings["seed"], "dagger", milestone.id, "final", k) % 2**31
                episodes.append(run_expert(env, spec, seed, expert).episode)
        pairs.append(Pair(milestone.id, EpisodeStatistics.of(episodes).success_rate, details["final"]["success_rate"]))
    return pairs
