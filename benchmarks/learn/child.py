"""One run in a process of its own: `python -m benchmarks.learn.child` gets it as JSON, and prints JSON lines."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.learn.contenders.outcome import Session, open_session
from benchmarks.learn.runs import HOTLAP, Run
from schemas.process.lifeline import end_with_parent


def execute(run: Run, folder: Path, report: Any) -> dict[str, Any]:
    """Execute a run in this process; return its curves and times. Raises ValueError, HotlapError or OSError."""
    from trainer.common import threads  # here, because it imports torch

    threads.limit_numpy_to_one_thread()
    threads.set_thread_count(1)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    session = _train(run, folder, report)
    session.env.close()
    session.evaluation.close()
    cpu_s = time.process_time() - began_cpu_s
    recorded = session.env.cycles
    return {
        "curve": [_short(cycle.score(session.environment)) for cycle in recorded],
        "reward_per_step": [_short(cycle.reward_per_step) for cycle in recorded],
        "episodes": [cycle.episodes for cycle in recorded],
        "evaluation": [(cycle, _short(score)) for cycle, score in sorted(session.evaluation.scores.items())],
        "cpu_s": round(cpu_s, 1),
        "env_cpu_s": round(session.env.cpu_s + session.evaluation.cpu_s, 1),
        "wall_s": round(time.monotonic() - began_s, 1),
    }


def _short(score: float | None) -> float | None:
    """Return a score with six digits, which keeps the store small."""
    return None if score is None else float(f"{score:.6g}")


def _train(run: Run, folder: Path, report: Any) -> Session:
    if run.contender == "hotlap-online":
        from benchmarks.learn.contenders.online_loop import run_online

        session = open_session(run, folder, report, agents=run.sizes.agents)
        run_online(session)
    elif run.contender in HOTLAP or run.contender == "untrained":
        from benchmarks.learn.contenders.file_loop import FileLoop

        session = open_session(run, folder, report, agents=run.sizes.agents)
        FileLoop(session, HOTLAP.get(run.contender, "v2")).run_all()
    else:
        from benchmarks.learn.contenders.sb3_loop import hyperparameters, run_sb3

        chosen = hyperparameters(run)
        session = open_session(run, folder, report, agents=chosen.agents)
        run_sb3(session, chosen)
    return session


def main() -> int:
    """Execute the run, and print its progress and its outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learn.child", description=__doc__)
    parser.add_argument("--run", required=True, metavar="JSON")
    parser.add_argument("--nice", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    end_with_parent()
    if arguments.nice:
        _set_priority(arguments.nice)

    def report(cycles: int, score: float | None, mean_score: float | None) -> None:
        print(json.dumps({"cycle": cycles, "score": score, "without_noise": mean_score}), flush=True)

    with tempfile.TemporaryDirectory(prefix="hotlap-learn-", ignore_cleanup_errors=True) as folder:
        outcome = execute(Run.from_plain(json.loads(arguments.run)), Path(folder), report)
    print(json.dumps({"outcome": outcome}), flush=True)
    return 0


def _set_priority(nice: int) -> None:
    """Run at this priority; on Windows, only if nothing else does."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
    else:
        psutil.Process().nice(max(nice, psutil.Process().nice()))  # only root may raise the priority


if __name__ == "__main__":
    raise SystemExit(main())
