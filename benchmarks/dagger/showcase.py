"""The five racing milestones from scratch, timed, and every policy compared with its expert on the same episodes.

With --milestone-config the milestones of another game; with --judge-only an existing run.
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
MOST_S = 300.0
LEAST_RATIO = 0.95


@dataclass(frozen=True, slots=True)
class Pair:
    """An expert and its policy on the same episodes."""

    milestone: str
    expert: float  #: success rate
    policy: float

    def is_enough(self) -> bool:
        """Return whether the policy does nearly as well."""
        return self.policy >= LEAST_RATIO * self.expert


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("dagger-show", help="five racing milestones, timed and evaluated", description=__doc__)
    p.add_argument("--milestone-config", type=Path, default=CONFIG, metavar="FILE", help="(dagger_racing.json)")
    p.add_argument("--judge-only", action="store_true", help="evaluate the run in --out; without a time limit")
    p.add_argument("--jobs", type=int, default=2, metavar="N", help="milestones at a time (2)")
    p.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "dagger_show", metavar="DIR")
    p.set_defaults(run=main)


def main(given: argparse.Namespace) -> int:
    """Run the pipeline; return 0 if it took under five minutes and every policy does nearly as well as its expert."""
    took_s = 0.0
    if not given.judge_only:
        shutil.rmtree(given.out, ignore_errors=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "trainer", "dagger", "--milestone-config", str(given.milestone_config)]
        command += ["--jobs", str(given.jobs), "--output-dir", str(given.out), "--state-dir", str(given.out / "states")]
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            return code
        took_s = time.monotonic() - began
    pairs = judge(given.out, given.milestone_config)
    print(f"on {machine.in_words(machine.describe())}")
    if took_s:
        print(
            f"{took_s:.0f} s for {len(pairs)} milestones with --jobs {given.jobs}; the limit for five is {MOST_S:.0f} s"
        )
    print()
    print("| milestone | expert | policy | enough |\n|---|---|---|---|")
    for pair in pairs:
        print(f"| {pair.milestone} | {pair.expert:.2f} | {pair.policy:.2f} | {'yes' if pair.is_enough() else 'NO'} |")
    return 0 if took_s < MOST_S and all(pair.is_enough() for pair in pairs) else 1


def judge(out: Path, config_file: Path) -> list[Pair]:
    """Run every expert on the episodes, and with the step limit, of its policy's final evaluation."""
    from trainer.common.rng import key_for
    from trainer.dagger.environment import open_environments
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
                episodes.append(run_expert(env, spec, seed, expert, None)[0])
        pairs.append(Pair(milestone.id, EpisodeStatistics.of(episodes).success_rate, details["final"]["success_rate"]))
    return pairs
