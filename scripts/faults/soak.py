"""Ten thousand cycles of one daemon in one process: checks that memory, handles, threads and files are limited.

python -m scripts.faults.soak --cycles 10000 --picture docs/lab/soak.svg    print the growth; exit code 1 if too much
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from scripts.faults.lib.progress import NoProgress, Progress
from scripts.faults.lib.soak_plot import picture

SAMPLES = 100
WARM_UP = 0.2
"""The share of samples that is ignored: at first, caches are filled and no folders are removed."""


class Limit(NamedTuple):
    """The allowed growth of a value: per cycle, plus a constant."""

    what: str
    unit: str
    per_cycle: float
    constant: float


LIMITS = (
    Limit("memory", "bytes", 400, 6e6),
    Limit("handles", "", 0, 2),
    Limit("threads", "", 0, 1),
    Limit("daemon.log", "bytes", 0, 41e6),
    Limit("logs", "files", 0, 210),
    Limit("ledger", "bytes", 3000, 1e5),
    Limit("models", "bytes", 0, 1e5),
    Limit("state", "files", 0, 10),
    Limit("exports", "files", 0, 4),
    Limit("gone cycles", "bytes", 500, 1e4),
    Limit("seconds a cycle", "s of CPU", 5e-6, 0.02),
)
"""The ledger and the list of removed cycles grow with every cycle; there are four log files of up to 10 MB."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The values after some cycles, one for each of `LIMITS`, in the same order."""

    cycle: int
    values: tuple[float, ...]


def handles(process: psutil.Process) -> int:
    """Return the number of open handles (files, sockets, pipes) of a process."""
    if sys.platform == "win32":
        return process.num_handles()
    return process.num_fds()


def measure(training: Path, seconds_a_cycle: float) -> tuple[float, ...]:
    """Measure this process and the folders under Saved/Training."""
    process = psutil.Process()
    logs, state = training / "Logs", training / "State"
    gone = state / "gone_cycles.jsonl"
    return (
        process.memory_info().rss,
        handles(process),
        threading.active_count(),
        sum(path.stat().st_size for path in logs.glob("daemon*.log")),
        sum(1 for _ in logs.iterdir()),
        (state / "ledger.sqlite3").stat().st_size,
        sum(path.stat().st_size for path in (training / "Models").rglob("*") if path.is_file()),
        sum(1 for path in state.rglob("*") if path.is_file()),
        sum(1 for _ in (training / "Exports").iterdir()),
        gone.stat().st_size if gone.exists() else 0,
        seconds_a_cycle,
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the regression line; 0 for fewer than two points."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def growth(samples: Sequence[Sample], index: int) -> float:
    """Return the growth of a value after the warm-up, by regression over its samples."""
    late = samples[int(len(samples) * WARM_UP) :]
    return slope([(sample.cycle, sample.values[index]) for sample in late]) * (late[-1].cycle - late[0].cycle)


def excesses(samples: Sequence[Sample]) -> list[str]:
    """Return a message for each value that grew more than its limit."""
    late = samples[int(len(samples) * WARM_UP) :]
    cycles = late[-1].cycle - late[0].cycle
    found = []
    for index, limit in enumerate(LIMITS):
        grew, allowed = growth(samples, index), limit.per_cycle * cycles + limit.constant
        if grew > allowed:
            found.append(
                f"{limit.what} grew by {grew:,.4g} {limit.unit} in {cycles} cycles, {allowed:,.4g} are allowed"
            )
    return found


def soak(
    folder: Path, cycles: int, report: Callable[[str], None] = lambda text: None, progress: Progress | None = None
) -> list[Sample]:
    """Run the cycles in an empty project folder and return the samples."""
    from tests.faults.support.soaking import soak_harness

    samples: list[Sample] = []
    progress = progress or NoProgress()
    progress.summary = lambda: ", ".join(_in_words(samples[-1])) if samples else ""
    every = max(1, cycles // SAMPLES)
    with soak_harness(folder) as harness:
        harness.until_version(0)
        started = time.process_time()
        for number in range(1, cycles + 1):
            harness.make_cycle(number)
            progress.advance()
            if number % every == 0:
                seconds = (time.process_time() - started) / every
                gc.collect()  # objects that wait for the garbage collector are not a leak
                samples.append(Sample(number, measure(harness.paths.training, seconds)))
                started = time.process_time()
                if number % (10 * every) == 0:
                    report(f"{number} cycles: " + ", ".join(_in_words(samples[-1])))
        if harness.failures:
            raise harness.failures[0]
    return samples


def _in_words(sample: Sample) -> list[str]:
    return [f"{limit.what} {value:,.4g}" for limit, value in zip(LIMITS, sample.values, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cycles, draw the curves and check the limits."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.soak", description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000, metavar="N")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the curves as SVG to this file")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with (
        Progress("soak", options.cycles, unit="cycles") as progress,
        tempfile.TemporaryDirectory() as folder,
    ):
        project = Path(folder).resolve() / "project"
        samples = soak(project, options.cycles, lambda text: print(text, flush=True), progress)
    titles = [f"{limit.what}{f' ({limit.unit})' if limit.unit else ''}" for limit in LIMITS]
    if options.picture is not None:
        curves = [[sample.values[index] for sample in samples] for index in range(len(LIMITS))]
        drawn = picture(titles, [sample.cycle for sample in samples], curves)
        options.picture.write_text(drawn, "utf-8")
    found = excesses(samples)
    print(f"soak: {options.cycles} cycles, {time.monotonic() - started:.0f} s; grew after the warm-up:")
    for index, title in enumerate(titles):
        print(f"  {title}: {growth(samples, index):,.4g}, now {samples[-1].values[index]:,.4g}")
    print("".join(f"TOO MUCH: {text}\n" for text in found) or "nothing grew more than its limit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
