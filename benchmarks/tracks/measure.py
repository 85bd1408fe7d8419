"""Detection and recovery of agents that share an index, and false alarms: `python -m benchmarks tracks --help`."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.lib import host_info as machine
from benchmarks.lib.doc_tables import table
from benchmarks.tracks.games import CORRECT, PHYSICAL, Play
from schemas.tracks.detection import has_several_agents, indices_of_several
from schemas.tracks.recovery import recovered

AGENTS, ORDERS, ROWS = (2, 4, 8, 16, 32), ("fixed", "any", "come and go"), (256, 1024, 4096)
_CORRECT_ROWS = (2048, 1024, 512, 512, 256, 256, 256, 256)
_CORRECT_AGENTS = 16
_PRESENT_TICKS, _ABSENT_TICKS = (15, 80), (5, 40)


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of several agents in a file without their index."""

    observations: npt.NDArray[np.float32]
    actions: npt.NDArray[np.float32]
    done: npt.NDArray[np.bool_]
    agents: npt.NDArray[np.int64]  #: the right index; another one each time an agent comes

    @property
    def successors(self) -> npt.NDArray[np.int64]:
        """Return the next row of each row's agent in its episode; -1 without one."""
        return successors_of(np.where(self.done, -1 - np.arange(len(self.done)), self.agents), self.agents)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this benchmark's flags."""
    p = commands.add_parser("tracks", help="agents that share an index: detection, recovery, false alarms (minutes)")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="SEED", help="(0 1)")
    p.add_argument("--only", choices=("correct", "shared"), metavar="PART", help="correct or shared (both)")
    p.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Print the tables."""
    from trainer.common import threads  # here, because it imports torch

    threads.limit_numpy_to_one_thread()
    print(f"on {machine.in_words(machine.describe())}")
    if arguments.only != "correct":
        print("\n".join(_shared_table(arguments.seeds)))
    if arguments.only != "shared":
        print("\n".join(_correct_table(arguments.seeds)))
    return 0


def merged(play: Play, order: str, seed: int, rows: int) -> Merged:
    """Return the first rows of a play in this order: fixed, any order in a tick, or agents that come and go."""
    rng, (ticks, agents) = np.random.default_rng([seed, 99]), play.done.shape
    present = np.ones((ticks, agents), dtype=bool)
    for agent in range(agents if order == "come and go" else 0):
        tick, is_present = 0, bool(rng.random() < 0.7)
        while tick < ticks:
            length = int(rng.integers(*(_PRESENT_TICKS if is_present else _ABSENT_TICKS)))
            present[tick : tick + length, agent] = is_present
            tick, is_present = tick + length, not is_present
    came = np.cumsum(present & ~np.concatenate([np.zeros((1, agents), bool), present[:-1]]), axis=0)
    here = [np.flatnonzero(row) for row in present]
    if order != "fixed":
        here = [rng.permutation(one) for one in here]
    tick_of = np.repeat(np.arange(ticks), [len(one) for one in here])[:rows]
    agent_of = np.concatenate(here)[:rows]
    at = tick_of, agent_of
    return Merged(play.observations[at], play.actions[at], play.done[at], agent_of + agents * came[at])


def successors_of(left: npt.NDArray[np.int64], entered: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the next row that enters the track that each row leaves open; -1 without one."""
    following, last = np.full(len(left), -1, dtype=np.int64), dict[int, int]()
    for row in range(len(left)):
        before = last.pop(int(entered[row]), -1)
        if before >= 0:
            following[before] = row
        last[int(left[row])] = row
    return following


def _shared_table(seeds: list[int]) -> Iterator[str]:
    found: dict[tuple[str, int], list[tuple[bool, float, float, float, float]]] = defaultdict(list)
    for name, game in PHYSICAL.items():
        for seed in seeds:
            play = game(max(AGENTS), 50 + max(ROWS), seed)
            for agents in AGENTS:
                for order in ORDERS:
                    for rows in ROWS:
                        one = merged(play.part(slice(50, None), slice(0, agents)), order, seed, rows)
                        found[name, rows].append(_measured(one))
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    heads = ["game", "rows", "detected", "steps found", "of these right", "confidence", "recovery, ms"]
    lines = []
    for (name, rows), each in found.items():
        detected = f"{sum(one[0] for one in each)} of {len(each)}"
        means = [statistics.fmean(one[k] for one in each) for k in (1, 2, 3)]
        lines.append(
            [
                name,
                f"{rows}",
                detected,
                *(f"{mean:.3f}" for mean in means),
                f"{statistics.median(o[4] for o in each):.0f}",
            ]
        )
    yield from ["", "Several agents under one index, 2 to 32, in three orders:", "", *table(heads, lines)]


def _measured(one: Merged) -> tuple[bool, float, float, float, float]:
    """Return whether it is detected, the share of steps found, the share of them that is right, confidence and ms."""
    is_detected = has_several_agents(one.observations, one.actions, one.done)
    began = time.process_time()
    tracks = recovered(one.observations, one.actions, one.done)
    ms = 1e3 * (time.process_time() - began)
    right, got = one.successors, successors_of(tracks.track, tracks.track)
    is_found = got >= 0
    correct = got[is_found] == right[is_found]
    return is_detected, correct.sum() / max(1, (right >= 0).sum()), correct.mean(), tracks.confidence, ms


def _correct_table(seeds: list[int]) -> Iterator[str]:
    lines, files, alarms = [], 0, 0
    for name, game in CORRECT.items():
        raised: list[bool] = []
        for seed in seeds:
            play = game(_CORRECT_AGENTS, sum(_CORRECT_ROWS), 100 + seed)
            raised += [has_several_agents(part.observations, part.actions, part.done) for part in _single_files(play)]
            raised += [_alarm_with_indices(play, agents) for agents in (2, 4, 8, 16)]
        print(f"{name}: {sum(raised)} of {len(raised)}", file=sys.stderr, flush=True)
        lines.append([name, f"{len(raised)}", f"{sum(raised)}"])
        files, alarms = files + len(raised), alarms + sum(raised)
    lines.append(["all", f"{files}", f"{alarms}"])
    yield from ["", "Correct files, 256 to 2,048 rows:", "", *table(["game", "files", "false alarms"], lines)]


def _single_files(play: Play) -> Iterator[Play]:
    """Yield the files of one agent each."""
    for agent in range(play.done.shape[1]):
        start = 0
        for rows in _CORRECT_ROWS:
            part = play.part(slice(start, start + rows), slice(agent, agent + 1))
            yield Play(part.observations[:, 0], part.actions[:, 0], part.done[:, 0])
            start += rows


def _alarm_with_indices(play: Play, agents: int) -> bool:
    """Return whether a file of 2,048 rows of several agents, each with its index, raises an alarm."""
    part = play.part(slice(0, 2048 // agents), slice(0, agents))
    rows = 2048 // agents * agents
    indices = np.tile(np.arange(agents, dtype=np.int32), 2048 // agents)
    observations, actions = part.observations.reshape(rows, -1), part.actions.reshape(rows, -1)
    return bool(indices_of_several(observations, actions, part.done.reshape(rows), indices))
