"""Repeated data at intake: only new experiences count, also after a restart, and status and doctor report it."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import orjson
import pytest

from daemon.diagnostics.data_health import check_data
from daemon.rollouts.reading.examination import _load_summaries, find_double_done
from schemas.job import Event, Job
from schemas.rollout.rollout import Rollout
from tests.faults.support.harness import InstantHarness, train, violations
from tests.helpers import make_rollout, v1_bytes, v1_document, write_rollout


class Engine:
    """An exporter that forgets to empty its buffer: each file has the last `window` experiences of one long game."""

    def __init__(self, exports: Path, *, window: int = 10**9) -> None:
        self.exports, self.window, self.files, self.played = exports, window, 0, 0
        self.game = v1_document(dataclasses.replace(make_rollout(n=2048), terminated=np.zeros(2048, bool)))

    def export(self, new: int = 64) -> None:
        self.files, self.played = self.files + 1, self.played + new
        rows = self.game["experiences"][max(0, self.played - self.window) : self.played]
        now = f"2026.11.21-12.00.{self.files:02d}"
        write_rollout(self.exports, self.files, orjson.dumps({"experiences": rows, "timestamp": now}))


@pytest.fixture
def jobs():
    return []


@pytest.fixture
def make(tmp_path, jobs):
    """Return a function that starts a daemon on the same project; all are closed at the end."""
    opened: list[InstantHarness] = []

    def answer(job: Job) -> list[Event]:
        jobs.append(job)
        return train(job)

    def start(**daemon: object) -> InstantHarness:
        for harness in opened:
            harness.close()
        opened[:] = [InstantHarness(tmp_path, **daemon)]
        opened[0].launcher.answer = answer
        return opened[0]

    yield start
    for harness in opened:
        harness.close()


def rows_trained_on(jobs: list[Job]) -> int:
    """Return how many experiences the trainer gets from the new rollouts of all jobs."""
    from trainer.common.prefetch_cache import PrefetchCache
    from trainer.common.reporting.reporter import MemoryReporter, Notices
    from trainer.rollouts.loading import load_rollouts, rules_of

    total = 0
    for job in jobs:
        if job.kind == "train":
            new = [rollout for rollout in job.rollouts if rollout.is_new]
            loaded = load_rollouts(new, rules_of(job), Notices(MemoryReporter()), PrefetchCache())
            total += sum(item.rollout.size for item in loaded)
    return total


@pytest.mark.torch
@pytest.mark.parametrize("window", [10**9, 160])
def test_of_cumulative_files_only_new_experiences_count_also_after_a_restart(make, jobs, window, tmp_path):
    harness = make(auto_train_after_n_rollouts=2)
    engine = Engine(harness.paths.exports, window=window)
    for version in (1, 2):
        for _ in range(2):
            engine.export()
            harness.until(lambda: harness.inbox.is_up_to_date)
        harness.until_version(version)
    [first] = [line for line in harness.log.lines if "[W_CUMULATIVE]" in line and "(1 of" in line]
    assert "rollout_2_20261121_120000.json repeats 64 of its 128 experiences" in first
    assert "only the 64 new ones count" in first
    harness = make(auto_train_after_n_rollouts=2)
    for _ in range(2):
        engine.export()
    harness.until_version(3)
    rows = [row.experiences for cycle in (1, 2, 3) for row in (u.row for u in harness.ledger.rollouts_of(cycle))]
    assert rows == [64] * 6
    contexts = 5 * 4  # the last experience of each agent in the file before: its next state is known now
    assert rows_trained_on(jobs) == 6 * 64 + contexts
    assert violations(tmp_path) == ()


def test_the_comparison_survives_a_restart_if_used_files_are_removed(make):
    harness = make(auto_train_after_n_rollouts=1, clear_exports_after_training=True)
    engine = Engine(harness.paths.exports)
    engine.export()
    harness.until_version(1)
    harness.until(lambda: not any(harness.paths.exports.iterdir()))
    harness = make(auto_train_after_n_rollouts=1)
    engine.export()
    harness.until_version(2)
    assert [used.row.experiences for used in harness.ledger.rollouts_of(2)] == [64]


def _summaries(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


_NAMES = np.frombuffer(orjson.dumps([["a" * 64, "one.json"]]), dtype=np.uint8)
_HASHES, _SAMPLE = np.arange(64, dtype=np.uint64), np.zeros((64, 18), np.float32)
WRONG_SUMMARIES = {
    "no names": _summaries(names=np.frombuffer(b"7", np.uint8)),
    "a number for a name": _summaries(names=np.frombuffer(b"[[1,2]]", np.uint8), hashes_0=_HASHES, sample_0=_SAMPLE),
    "other hashes": _summaries(names=_NAMES, hashes_0=_HASHES.astype(np.float64), sample_0=_SAMPLE),
    "nan in the sample": _summaries(names=_NAMES, hashes_0=_HASHES, sample_0=np.full_like(_SAMPLE, np.nan)),
    "objects": _summaries(names=_NAMES, hashes_0=np.array([{}], object), sample_0=_SAMPLE),
    "texts": _summaries(names=_NAMES, hashes_0=_HASHES, sample_0=np.array([["a"]])),
}


@pytest.mark.fault(85)
@pytest.mark.parametrize("fault", WRONG_SUMMARIES)
def test_wrong_summaries_of_earlier_rollouts_are_ignored(tmp_path, fault):
    path = tmp_path / "compared_rollouts.npz"
    path.write_bytes(WRONG_SUMMARIES[fault])
    assert _load_summaries(path) == {}
    path.write_bytes(_summaries(names=_NAMES, hashes_0=_HASHES, sample_0=_SAMPLE))
    assert list(_load_summaries(path)) == ["a" * 64]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x93NUMPY"])
def test_a_damaged_comparison_is_ignored(make, content):
    harness = make(auto_train_after_n_rollouts=1, clear_exports_after_training=True)
    engine = Engine(harness.paths.exports)
    engine.export()
    harness.until_version(1)
    harness.close()
    assert harness.paths.compared_rollouts.stat().st_size > 1000
    harness.paths.compared_rollouts.write_bytes(content)
    harness = make(auto_train_after_n_rollouts=1)
    engine.export()
    harness.until_version(2)


@pytest.mark.parametrize("is_same_file", [True, False])
def test_a_game_that_plays_the_same_each_time_is_a_warning(make, jobs, is_same_file, tmp_path):
    """The same bytes count once. With another time stamp each file is a rollout, so that training goes on."""
    harness = make(auto_train_after_n_rollouts=6)
    document = v1_document(make_rollout(n=64))
    for number in range(1, 6):
        stamp = {} if is_same_file else {"timestamp": f"2026.11.21-12.00.{number:02d}"}
        write_rollout(harness.paths.exports, number, orjson.dumps({**document, **stamp}))
        harness.until(lambda: harness.inbox.is_up_to_date)
    assert harness.ledger.pending_count() == (1 if is_same_file else 5)
    assert "W_REPEATED" in harness.warnings()
    lines = [line for line in harness.log.lines if "[W_REPEATED]" in line]
    assert [line.split("(")[1].split(" of")[0] for line in lines] == ["1", "2", "4"], "it does not fill the log"
    assert "Start it with another random seed" in lines[0]
    assert ("counted once" if is_same_file else "it counts all the same") in lines[0]
    if is_same_file:
        assert any("[W_REPEATED]" in text for _, text in check_data(harness.ledger))
    for number in range(11, 16 if is_same_file else 12):
        write_rollout(harness.paths.exports, number)
    harness.until_version(1)
    assert len(harness.ledger.history()[-1].rollouts) == 6
    assert violations(tmp_path) == ()


def test_the_warning_ends_when_the_game_plays_on(make):
    harness = make(auto_train_after_n_rollouts=100)
    for number in (1, 2):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=1))
    for number in range(11, 22):
        write_rollout(harness.paths.exports, number)
    harness.until(lambda: harness.ledger.pending_count() == 12)
    assert "W_REPEATED" not in harness.warnings()


def test_a_file_that_was_renamed_is_not_a_game_that_repeats_itself(make):
    harness = make(auto_train_after_n_rollouts=100)
    path = write_rollout(harness.paths.exports, 1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    path.rename(path.with_name("rollout_1_renamed.json"))
    harness.until(lambda: any("counted once" in line for line in harness.log.lines))
    assert "W_REPEATED" not in harness.warnings()


def test_a_game_that_plays_nearly_the_same_is_a_warning_and_counts(make):
    harness = make(auto_train_after_n_rollouts=100)
    rollout = make_rollout(n=256)
    for number in (1, 2):
        noisy = rollout.observations + 1e-5 * np.random.default_rng(number).normal(size=rollout.observations.shape)
        again = dataclasses.replace(rollout, observations=noisy.astype("f4"))
        write_rollout(harness.paths.exports, number, orjson.dumps(v1_document(again)))
    harness.until(lambda: harness.ledger.pending_count() == 2)
    [line] = [line for line in harness.log.lines if "[W_REPEATED]" in line]
    assert "nearly the same experiences as rollout_1_" in line
    assert "it counts all the same" in line


# Two `done` in a row


def with_ends(*rows: int, n: int = 256, agents: int = 4) -> Rollout:
    ended = np.zeros(n, bool)
    ended[list(rows)] = True
    return dataclasses.replace(make_rollout(n=n, agents=agents, seed=rows[0] if rows else 0), terminated=ended)


def test_two_ends_in_a_row_are_reported_once(make):
    harness = make(auto_train_after_n_rollouts=100)
    for number in range(1, 5):
        bad = dataclasses.replace(with_ends(40, 44, 100, 104, 108), rewards=np.full(256, number, np.float32))
        write_rollout(harness.paths.exports, number, orjson.dumps(v1_document(bad)))
    harness.until(lambda: harness.ledger.pending_count() == 4)
    [line] = [line for line in harness.log.lines if "[W_DOUBLE_DONE]" in line]
    assert "3 times, first for agent 0 in experiences 40 and 44 (counted from 0)" in line
    assert ("episodes", line.removeprefix("WARNING ")) in list(check_data(harness.ledger))


@pytest.mark.parametrize(
    ("rows", "is_found"),
    [((40, 44), True), ((40, 41), False), ((40, 48), False), ((), False), (tuple(range(256)), False)],
    ids=["same agent", "other agents", "a step between", "no end", "a game of one-step episodes"],
)
def test_only_ends_of_one_agent_without_a_step_between_count(rows, is_found):
    assert bool(find_double_done(with_ends(*rows))) is is_found


def test_a_step_that_was_left_out_is_a_step_between():
    rollout = with_ends(40, 44)
    gap = np.arange(256) == 44
    assert find_double_done(dataclasses.replace(rollout, after_gap=gap)) == ""
