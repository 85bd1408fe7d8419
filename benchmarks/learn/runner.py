"""Execute runs at the same time, each in a process of its own, and store each when it ends."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.learn.runs import Run
from benchmarks.learn.store import Record, Store, present_commit
from benchmarks.lib import host_info as machine
from benchmarks.lib.child_process import BenchChild, Cancelled, RunError

PrintProgress = Callable[[str], None]
TIMEOUT_S = 1800.0  #: time limit for one cycle; a large CrossQ takes minutes on a busy core
_POLL_S = 1.0  #: Windows handles Ctrl-C only between waits


def execute_all(
    runs: Sequence[Run], store: Store, *, jobs: int, nice: int, print_progress: PrintProgress, budget_s: float | None
) -> int:
    """Execute the runs and store them; return how many failed.

    After `budget_s` CPU seconds no further run starts. All running ones stop if the caller stops, and are not stored.
    """
    stopping, failed, used_s, position = threading.Event(), 0, 0.0, 0
    commit, host = present_commit(), machine.describe()
    queue = list(runs)
    with ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[dict[str, Any]], Run] = {}
        try:
            while queue or waiting:
                while queue and len(waiting) < jobs and (budget_s is None or used_s < budget_s):
                    run = queue.pop(0)
                    position += 1
                    report = _reporter(run, f"[{position}/{len(runs)}]", print_progress)
                    waiting[pool.submit(execute, run, nice=nice, stopping=stopping, report=report)] = run
                if not waiting:
                    print_progress(f"the CPU time is used up; {len(queue)} runs are left for the next call")
                    break
                for future in wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED).done:
                    run = waiting.pop(future)
                    outcome = _result(future)
                    if isinstance(outcome, RunError):
                        failed += 1
                        print_progress(f"{run}  FAILED: {outcome}")
                        continue
                    used_s += outcome["cpu_s"]
                    date = datetime.now(UTC).strftime("%Y-%m-%d")
                    store.append(_record(run, outcome, date=date, commit=commit, host=host))
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)
    return failed


def _result(future: Future[dict[str, Any]]) -> dict[str, Any] | RunError:
    try:
        return future.result()
    except RunError as error:
        return error


def _record(run: Run, outcome: dict[str, Any], *, date: str, commit: str, host: dict[str, str | int]) -> Record:
    return Record(
        run=run,
        curve=tuple(outcome["curve"]),
        reward_per_step=tuple(outcome["reward_per_step"]),
        episodes=tuple(outcome["episodes"]),
        evaluation=tuple((cycle, score) for cycle, score in outcome["evaluation"]),
        cpu_s=outcome["cpu_s"],
        env_cpu_s=outcome["env_cpu_s"],
        wall_s=outcome["wall_s"],
        date=date,
        commit=commit,
        machine=host,
    )


def execute(
    run: Run, *, nice: int, stopping: threading.Event, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Execute one run in a child process; return its outcome. Raises RunError or Cancelled."""
    if stopping.is_set():
        raise Cancelled
    arguments = ["-m", "benchmarks.learn.child", "--run", json.dumps(run.plain()), "--nice", str(nice)]
    outcome: dict[str, Any] | None = None
    with (
        tempfile.TemporaryDirectory(prefix="hotlap-learn-", ignore_cleanup_errors=True) as folder,
        BenchChild("learn", arguments, folder=Path(folder), captures_output=True) as child,
    ):
        while (line := child.next_line(TIMEOUT_S, stopping)) is not None:
            if not line.startswith("{"):
                continue  # pygame and others print a line when they are imported
            document = json.loads(line)
            outcome = document.get("outcome", outcome)
            if outcome is None:
                report(document)
        child.expect_success(TIMEOUT_S)
    if outcome is None:
        raise RunError("it ended without an outcome")
    return outcome


def _reporter(run: Run, position: str, print_progress: PrintProgress) -> Callable[[dict[str, Any]], None]:
    start_s = time.monotonic()

    def report(document: dict[str, Any]) -> None:
        score, mean_score = (_shown(document[name]) for name in ("score", "without_noise"))
        seconds = time.monotonic() - start_s
        print_progress(
            f"{position} {run}  cycle {document['cycle']:2d}/{run.cycles}  {score:>9}  without noise {mean_score:>9}"
            f"  {seconds:4.0f} s"
        )

    return report


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}" if abs(score) < 10 else f"{score:.0f}"
