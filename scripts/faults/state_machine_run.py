"""Runs the state machine of tests/faults/support/machine.py many times: new files, kills, disk errors, failures.

python -m scripts.faults.state_machine_run --runs 2000 --jobs 2    print the counts; exit code 1 after a violation
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scripts.faults.lib.progress import NoProgress, Progress

_RUNS_AT_ONCE = 100
"""Runs in one search of Hypothesis. A violation ends these runs, and the others continue."""


_runs_done: Any = None
"""In a worker process: the number of runs that all of them have finished, in shared memory."""


class RunBatch(NamedTuple):
    """Several runs with one seed, which can be repeated."""

    runs: int
    steps: int
    seed: int
    shrinks: bool


def run_batch(batch: RunBatch) -> tuple[Counter[str], str]:
    """Run a batch; return the counts and the first violation, or an empty text."""
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    from tests.faults.support.machine import COUNTS, DaemonMachine

    COUNTS.clear()
    chosen = settings(
        max_examples=batch.runs,
        stateful_step_count=batch.steps,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if batch.shrinks else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    broken = ""
    try:
        counted = type("DaemonMachine", (DaemonMachine,), {"teardown": _counting(DaemonMachine.teardown)})
        run_state_machine_as_test(seeded(batch.seed)(counted), settings=chosen)
    except Exception as error:  # noqa: BLE001  any exception is a finding
        broken = f"seed {batch.seed}: {''.join(traceback.format_exception(error))}"
    return Counter(COUNTS), broken


def _counting(teardown: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return the end of a run that also counts it."""

    def counted(machine: Any) -> None:
        try:
            teardown(machine)
        finally:
            if _runs_done is not None:
                with _runs_done.get_lock():
                    _runs_done.value += 1

    return counted


def _begin_worker(runs_done: Any) -> None:
    """Prepare a worker: the parent handles Ctrl-C."""
    global _runs_done
    _runs_done = runs_done
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_all(batches: Sequence[RunBatch], jobs: int, progress: Progress | None = None) -> tuple[Counter[str], list[str]]:
    """Run the batches, `jobs` at a time; return all counts and violations."""
    counts: Counter[str] = Counter()
    violations: list[str] = []
    progress = progress or NoProgress()
    progress.summary = lambda: in_words(counts)
    runs_done = multiprocessing.Value("q", 0)
    progress.count_with(lambda: int(runs_done.value))
    with multiprocessing.Pool(jobs, _begin_worker, (runs_done,)) as pool:
        for counted, broken in pool.imap_unordered(run_batch, batches):
            counts += counted
            violations += [broken] if broken else []
            progress.advance(violations=[broken] if broken else [])
    return counts, violations


def in_words(counts: Counter[str]) -> str:
    """Return the counts of the batches that have ended, in alphabetical order."""
    return ", ".join(f"{what} {count:,}" for what, count in sorted(counts.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the state machine and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.state_machine_run", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, metavar="N")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="maximum steps of each run")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--no-shrink", action="store_true", help="show a violation as it was found; much faster")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    batches = [
        RunBatch(min(_RUNS_AT_ONCE, options.runs - first), options.steps, options.seed + first, not options.no_shrink)
        for first in range(0, options.runs, _RUNS_AT_ONCE)
    ]
    with Progress("state machine", options.runs) as progress:
        counts, violations = run_all(batches, options.jobs, progress)
    seconds = time.monotonic() - started
    runs = counts.pop("runs", 0)
    print(f"state machine: {runs} runs of up to {options.steps} steps, {len(violations)} violations, {seconds:.0f} s")
    print(f"  {in_words(counts)}")
    for text in violations:
        print(text)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
