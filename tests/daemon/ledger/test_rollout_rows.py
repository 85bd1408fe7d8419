"""Rollouts in the ledger: which a claim assigns, what their rewards count, and whose arrays are still needed."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace

import pytest

from daemon.ledger.cycle import Phase
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import FileSignature, RolloutRow
from daemon.publishing.retention import prune_cache
from schemas.storage.layout import ProjectPaths


@pytest.fixture
def paths(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    return paths


@pytest.fixture
def ledger(paths):
    opened = Ledger.open(paths.ledger)
    yield opened
    opened.close()


def accept(ledger: Ledger, number: int, *, experiences: int = 64, left_out: int = 0, reward: float = 0.0) -> str:
    sha256 = f"{number:064x}"
    row = RolloutRow(sha256, f"rollout_{number}.json", experiences, left_out, reward, None, 1000.0)
    assert ledger.accept(row, FileSignature(1, number, number), at_s=1.0, contract=None)
    return sha256


def read(paths: ProjectPaths, sql: str) -> list[tuple[object, ...]]:
    """Return what another connection reads from the file."""
    with contextlib.closing(sqlite3.connect(paths.ledger)) as db:
        return db.execute(sql).fetchall()


def test_a_claim_assigns_rollouts_with_left_out_steps_too(ledger, paths):
    accept(ledger, 1)
    accept(ledger, 2, left_out=7)
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=2.0)
    assert read(paths, "SELECT name, cycle_id FROM rollout ORDER BY id") == [
        ("rollout_1.json", cycle.id),
        ("rollout_2.json", cycle.id),
    ]
    assert ledger.pending_count() == 0


def test_the_reward_of_a_cycle_is_the_mean_over_experiences_not_over_rollouts(ledger, paths):
    accept(ledger, 1, experiences=300, reward=1.0)
    accept(ledger, 2, experiences=100, reward=5.0)
    cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=2.0)
    assert read(paths, f"SELECT reward_mean FROM cycle WHERE id = {cycle.id}") == [(2.0,)]


def test_the_arrays_of_a_parked_cycle_are_kept_after_the_files_are_gone(ledger, paths):
    hashes = []
    for number, end in enumerate((Phase.FAILED, Phase.PARKED), start=1):
        hashes.append(accept(ledger, number))
        cycle = ledger.claim(kind="train", cause="count", parent=None, at_s=2.0)
        training = replace(cycle, phase=Phase.TRAINING, attempt=1)
        ledger.move(cycle, training, at_s=3.0)
        ledger.move(training, replace(training, phase=end, why="it failed"), at_s=4.0)
    hashes.append(accept(ledger, 3))
    ledger.forget_files([f"rollout_{number}.json" for number in (1, 2, 3)])
    for sha256 in hashes:
        paths.cached_rollout(sha256).write_bytes(b"arrays")
    prune_cache(paths, ledger.cache_needed())
    _of_failed, of_parked, of_pending = map(paths.cached_rollout, hashes)
    assert set(paths.cache.iterdir()) == {of_parked, of_pending}
