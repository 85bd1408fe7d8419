"""Reading rollouts, compared with libraries that only parse: 2048 experiences, 15 observations, 3 actions."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np
import orjson

from benchmarks.lib.measurement import Figure, Section, Sense, number, ratio_claim
from benchmarks.lib.progress import PrintProgress
from schemas.rollout.reader import read_rollout
from schemas.rollout.v2 import rollout_to_v2
from trainer.simulate import rollout_file

NAME = "intake"
HELP = "reading rollouts, compared with orjson, json, msgspec and simdjson alone"
EXPERIENCES, OBSERVATIONS, AGENTS = 2048, 15, 16
MAX_RATIO = 1.5
FLOOR, READ = "orjson.loads alone, version 1", "read_rollout, version 1"
PACKED_FLOOR, PACKED = "orjson.loads alone, version 2 as base64", "read_rollout, version 2 as base64"

Readers = dict[str, tuple[bytes, Callable[[bytes], object]]]


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=40, metavar="N", help="rounds of all readers (40)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Read the same bytes with all readers alternately."""
    one = rollout_file.encode_text(version_1(random_rollout(EXPERIENCES)))
    rollout = read_rollout(one)
    lists = rollout_to_v2(rollout, rollout_id="r", base64_columns=False)
    packed = rollout_to_v2(rollout, rollout_id="r", base64_columns=True)
    readers: Readers = {
        FLOOR: (one, orjson.loads),
        "json.loads alone, version 1": (one, json.loads),
        "msgspec.json.decode alone, version 1": (one, msgspec.json.decode),
        **_simdjson(one),
        READ: (one, read_rollout),
        "read_rollout, version 2 as lists": (lists, read_rollout),
        PACKED_FLOOR: (packed, orjson.loads),
        PACKED: (packed, read_rollout),
    }
    print_progress(f"{arguments.rounds} rounds of {len(readers)} readers")
    times_ms = _times_ms(readers, arguments.rounds)
    figures = [_figure(name, len(data), times_ms[name]) for name, (data, _) in readers.items()]
    claim = ratio_claim(
        "Reading version 1, times orjson.loads of the same bytes",
        Sense.UNDER,
        MAX_RATIO,
        times_ms[READ],
        times_ms[FLOOR],
    )
    notes = (f"{EXPERIENCES:,} experiences, {OBSERVATIONS} observations, 3 actions; CPU time.",)
    heads = ("size, MB", "MB/s", "experiences/s")
    return Section(NAME, "Reading rollouts", tuple(figures), (claim,), heads, notes)


def _simdjson(data: bytes) -> Readers:
    try:
        import simdjson
    except ImportError:
        return {}
    parser = simdjson.Parser()

    def parsed_only(text: bytes) -> None:
        parser.parse(text)  # returns a view that must be deleted before the next parse

    return {
        "simdjson.loads alone, version 1": (data, simdjson.loads),
        "simdjson's parser alone, no values read, version 1": (data, parsed_only),
    }


def _figure(name: str, size: int, times_ms: list[float]) -> Figure:
    per_s = 1e3 / statistics.median(times_ms)
    more = (number(size / 1e6), number(size / 1e6 * per_s), number(EXPERIENCES * per_s))
    floor = {FLOOR: "", PACKED_FLOOR: "", PACKED: PACKED_FLOOR}.get(name, FLOOR)
    return Figure(name, "ms", tuple(times_ms), floor, more)


def _times_ms(readers: Readers, rounds: int) -> dict[str, list[float]]:
    """Return CPU times; the readers alternate, so that other load affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, (data, reader) in readers.items():
            began = time.process_time()
            reader(data)
            times[name].append((time.process_time() - began) * 1e3)
    return times


def version_1(rollout: rollout_file.ExportedRollout) -> str:
    """Return the rollout as Unreal writes it."""
    return rollout_file.version_1(rollout, datetime(2026, 11, 21, tzinfo=UTC))


def random_rollout(n: int) -> rollout_file.ExportedRollout:
    """Return `n` random experiences of agents whose observations change little in a step."""
    rng = np.random.default_rng(n)
    steps = rng.normal(size=(-(-n // AGENTS), AGENTS, OBSERVATIONS))
    return rollout_file.ExportedRollout(
        observations=np.cumsum(steps, axis=0).reshape(-1, OBSERVATIONS)[:n].astype(np.float32),
        actions=rng.uniform(0.0, 1.0, size=(n, 3)).astype(np.float32),
        rewards=rng.normal(size=n).astype(np.float32),
        terminated=rng.random(n) < 0.01,
        truncated=np.zeros(n, dtype=bool),
        log_probs=rng.normal(size=n).astype(np.float32),
        values=rng.normal(size=n).astype(np.float32),
        agents=(np.arange(n) % AGENTS).astype(np.int32),
        action_names=("steer", "throttle", "brake"),
    )
