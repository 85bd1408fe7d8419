"""Execute several runs at the same time, each in its own temporary folder."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.learning import file_loop
from benchmarks.learning.scenarios import Method, Scenario, ScenarioOutcome, ScenarioRun
from benchmarks.lib.child_process import BenchChild, Cancelled, RunError

PrintProgress = Callable[[str], None]
TIMEOUT_S = 300.0  #: time limit without output from a run; a cycle takes seconds
_POLL_S = 1.0  #: Windows handles Ctrl-C only between waits


def run_all(
    runs: Sequence[ScenarioRun], plan: Scenario, *, jobs: int, keep: Path | None, print_progress: PrintProgress
) -> Iterator[tuple[ScenarioRun, ScenarioOutcome | RunError]]:
    """Yield each run's outcome, or the reason of its failure, when it ends. All runs stop if the caller stops."""
    stopping = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(run_scenario, run, plan, keep=keep, stopping=stopping, print_progress=print_progress): run
            for run in runs
        }
        try:
            while waiting:
                for future in wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), _result(future)
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)


def _result(future: Future[ScenarioOutcome]) -> ScenarioOutcome | RunError:
    try:
        return future.result()
    except RunError as error:
        return error


def run_scenario(
    run: ScenarioRun, plan: Scenario, *, keep: Path | None, stopping: threading.Event, print_progress: PrintProgress
) -> ScenarioOutcome:
    """Execute one run. Raises RunError or Cancelled."""
    if stopping.is_set():
        raise Cancelled
    start_s = time.monotonic()
    done = 0

    def report_batch(reward: float) -> None:
        nonlocal done
        print_progress(
            f"{run}  cycle {done:2d}/{plan.cycles}  reward per step {reward:6.3f}  {time.monotonic() - start_s:4.0f} s"
        )
        done += 1

    train = in_process if run.method is Method.SB3 else file_loop.run_file_loop
    with _folder(run, keep) as folder:
        curve, details = train(run, plan, folder, timeout_s=TIMEOUT_S, stopping=stopping, report_batch=report_batch)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return ScenarioOutcome(run, tuple(curve), round(time.monotonic() - start_s, 1), date, details)


def in_process(
    run: ScenarioRun,
    plan: Scenario,
    folder: Path,
    *,
    timeout_s: float,
    stopping: threading.Event,
    report_batch: Callable[[float], None],
) -> tuple[list[float], list[dict[str, Any]]]:
    """Run Stable-Baselines3, with the signature of `run_file_loop`. Raises RunError or Cancelled."""
    factor, shift = run.scale.factor_and_shift
    numbers = {"agents": plan.agents, "batch": plan.batch, "cycles": plan.cycles, "seed": run.seed}
    flags = numbers | {"observation-scale": factor, "observation-shift": shift}
    arguments = [
        "-m",
        "benchmarks.learning.sb3_in_process",
        *(word for name in flags for word in (f"--{name}", str(flags[name]))),
    ]
    curve: list[float] = []
    with BenchChild("sb3", arguments, folder=folder, captures_output=True) as child:
        while (line := child.next_line(timeout_s, stopping)) is not None:
            curve.append(json.loads(line)["reward_per_step"])
            report_batch(curve[-1])
        child.expect_success(timeout_s)
    if len(curve) != plan.cycles + 1:
        raise RunError(f"it has {len(curve)} batches instead of {plan.cycles + 1}")
    return curve, []


@contextmanager
def _folder(run: ScenarioRun, keep: Path | None) -> Iterator[Path]:
    """Return a folder for one run: a temporary one, or a permanent one under `keep`."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="hotlap-learning-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    folder = (keep / f"{run.method}-{run.scale}-{run.seed}").resolve()
    folder.mkdir(parents=True)
    yield folder
