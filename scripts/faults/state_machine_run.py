"""Runs the state machine of tests/faults/support/machine.py many times: new files, kills, disk errors, failures.

python -m scripts.faults.state_machine_run --runs 2000 --jobs 2    print the counts; exit code 1 after a violation
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

_RUNS_AT_ONCE = 100
"""Runs in one search of Hypothesis. A violation ends these runs, and the others continue."""


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
        run_state_machine_as_test(seeded(batch.seed)(type("DaemonMachine", (DaemonMachine,), {})), settings=chosen)
    except Exception as error:  # noqa: BLE001  any exception is a finding
        broken = f"seed {batch.seed}: {''.join(traceback.format_exception(error))}"
    return Counter(COUNTS), broken


def run_all(batches: Sequence[RunBatch], jobs: int) -> tuple[Counter[str], list[str]]:
    """Run the batches, `jobs` at a time; return all counts and violations."""
    counts: Counter[str] = Counter()
    violations = []
    with ProcessPoolExecutor(jobs) as pool:
        for counted, broken in pool.map(run_batch, batches):
            counts += counted
            violations += [broken] if broken else []
    return counts, violations


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
    counts, violations = run_all(batches, options.jobs)
    seconds = time.monotonic() - started
    runs = counts.pop("runs", 0)
    print(f"state machine: {runs} runs of up to {options.steps} steps, {len(violations)} violations, {seconds:.0f} s")
    print("  " + ", ".join(f"{what} {count:,}" for what, count in sorted(counts.items())))
    for text in violations:
        print(text)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
