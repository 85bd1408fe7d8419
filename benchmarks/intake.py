"""How fast rollouts are read, beside orjson and json alone: `python -m benchmarks intake --help`."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import orjson

from benchmarks import machine
from schemas.rollout_reader import read_rollout
from schemas.rollout_v2 import rollout_to_v2
from scripts.engine import rollout_file

EXPERIENCES, OBSERVATIONS = 2048, 15
MOST_RATIO = 1.5


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("intake", help="reading rollouts, beside orjson and json alone", description=__doc__)
    p.add_argument("--rounds", type=int, default=40, metavar="N", help="of each reader, in turn (40)")
    p.set_defaults(run=main)


def main(given: argparse.Namespace) -> int:
    """Print the table; 0 where version 1 costs less than 1.5 times orjson.loads of the same bytes."""
    text = rollout_file.version_1(_random_rollout(), datetime(2026, 11, 21, tzinfo=UTC))
    one = rollout_file.encoded(text)
    rollout = read_rollout(one)
    lists = rollout_to_v2(rollout, rollout_id="r", base64_columns=False)
    packed = rollout_to_v2(rollout, rollout_id="r", base64_columns=True)
    readers: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "orjson.loads alone, version 1": (one, orjson.loads),
        "json.loads alone, version 1": (one, json.loads),
        "read_rollout, version 1": (one, read_rollout),
        "read_rollout, version 2 as lists": (lists, read_rollout),
        "orjson.loads alone, version 2 as base64": (packed, orjson.loads),
        "read_rollout, version 2 as base64": (packed, read_rollout),
    }
    times_ms = _times_ms(readers, given.rounds)
    floor = statistics.median(times_ms["orjson.loads alone, version 1"])
    print(f"on {machine.in_words(machine.describe())}; {EXPERIENCES} experiences, {OBSERVATIONS} observations")
    print("| reader | size, MB | median, ms | least to most | MB/s | times orjson on version 1 |")
    print("|---|---|---|---|---|---|")
    for name, (data, _) in readers.items():
        median = statistics.median(times_ms[name])
        spread = f"{min(times_ms[name]):.2f} to {max(times_ms[name]):.2f}"
        size = len(data) / 1e6
        print(f"| {name} | {size:.2f} | {median:.2f} | {spread} | {size / median * 1e3:.0f} | {median / floor:.2f} |")
    return 0 if statistics.median(times_ms["read_rollout, version 1"]) < MOST_RATIO * floor else 1


def _times_ms(readers: dict[str, tuple[bytes, Callable[[bytes], object]]], rounds: int) -> dict[str, list[float]]:
    """CPU times, all readers in turn, so that the machine's moods hit all alike."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, (data, reader) in readers.items():
            began = time.process_time()
            reader(data)
            times[name].append((time.process_time() - began) * 1e3)
    return times


def _random_rollout() -> rollout_file.Rollout:
    rng, n = np.random.default_rng(0), EXPERIENCES
    return rollout_file.Rollout(
        observations=rng.normal(size=(n, OBSERVATIONS)).astype(np.float32),
        actions=rng.uniform(0.0, 1.0, size=(n, 3)).astype(np.float32),
        rewards=rng.normal(size=n).astype(np.float32),
        terminated=rng.random(n) < 0.01,
        truncated=np.zeros(n, dtype=bool),
        log_probs=rng.normal(size=n).astype(np.float32),
        values=rng.normal(size=n).astype(np.float32),
        agents=(np.arange(n) % 16).astype(np.int32),
        action_names=("steer", "throttle", "brake"),
    )
