"""Learning with Hotlap: an engine process and a daemon process that share only two folders."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.learning.scenarios import Method, Scenario, ScenarioRun
from benchmarks.lib.child_process import ROOT, BenchChild, RunError, environment


def run_file_loop(
    run: ScenarioRun,
    plan: Scenario,
    folder: Path,
    *,
    timeout_s: float,
    stopping: threading.Event,
    report_batch: Callable[[float], None],
) -> tuple[list[float], list[dict[str, Any]]]:
    """Return the reward per step of each batch, and the daemon's history. Raises RunError or Cancelled."""
    if plan.config:
        (folder / "daemon.toml").write_text(plan.config, encoding="utf-8")
    with (
        BenchChild("daemon", daemon_arguments(run, plan, folder), folder=folder, captures_output=False) as daemon,
        BenchChild("engine", engine_arguments(run, plan, folder), folder=folder, captures_output=True) as engine,
    ):
        curve: list[float] = []
        versions: list[int] = []
        while len(curve) <= plan.cycles:
            batch = [_report(engine.next_line(timeout_s, stopping, daemon), engine) for _ in range(plan.rollouts)]
            curve.append(sum(report["reward_per_step"] for report in batch) / len(batch))
            versions.append(_only_version(batch, versions))
            report_batch(curve[-1])
        engine.expect_success(timeout_s)
        return curve, _read_history(folder)


def daemon_arguments(run: ScenarioRun, plan: Scenario, folder: Path) -> list[str]:
    """Return the daemon's arguments: as users start it, but on the CPU, like Stable-Baselines3."""
    arguments = ["-m", "daemon", "--no-dashboard", "--project", str(folder), "--device", "cpu"]
    return [*arguments, "--seed", str(run.seed), "--after-n-rollouts", str(plan.rollouts)]


def engine_arguments(run: ScenarioRun, plan: Scenario, folder: Path) -> list[str]:
    """Return the engine's arguments: it waits for a new model after each batch."""
    factor, shift = run.scale.factor_and_shift
    flags = {
        "project": folder,
        "agents": plan.agents,
        "experiences": plan.steps,
        "seed": run.seed,
        "rollouts": (plan.cycles + 1) * plan.rollouts,
        "pause-while-training": plan.rollouts,
        "observation-scale": factor,
        "observation-shift": shift,
    }
    arguments = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    own = ["--own-weights"] if run.method is Method.OWN else []
    return [str(ROOT / "scripts" / "simulate_engine.py"), *arguments, *own, "--lifeline", "--json"]


def _report(line: str | None, engine: BenchChild) -> dict[str, Any]:
    if line is None:
        raise RunError(f"the engine ended too early:\n{engine.log_tail()}")
    report: dict[str, Any] = json.loads(line)
    return report


def _only_version(batch: list[dict[str, Any]], before: list[int]) -> int:
    """Return the policy version of a batch; -1 for the engine's own weights.

    Raises RunError if it is not exactly one version, newer than before, because then runs cannot be compared.
    """
    versions = {-1 if report["policy_version"] is None else int(report["policy_version"]) for report in batch}
    if len(versions) != 1 or (before and min(versions) <= before[-1]):
        raise RunError(f"a batch has the policy versions {sorted(versions)} after {before}")
    return versions.pop()


def _read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the daemon's history, without the rollouts' names, and its final warnings."""
    keys = ("cycle", "state", "policy_version", "best_epoch", "score", "value_loss", "seconds", "error")
    cycles = [{name: cycle.get(name) for name in keys} for cycle in _daemon_json(folder, "history")]
    return cycles + [
        {"warning": w["code"], "message": w["message"]} for w in _daemon_json(folder, "status")["warnings"]
    ]


def _daemon_json(folder: Path, command_name: str) -> Any:
    """Return the output of `python -m daemon WORD --json`."""
    command = [sys.executable, "-P", "-m", "daemon", command_name, "--json", "--project", str(folder)]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RunError(f"`daemon {command_name}` ended with code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)
