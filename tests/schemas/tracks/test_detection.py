"""Agents that share an index are detected; single agents of all kinds are not mistaken for several."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.tracks.detection import has_several_agents, indices_of_several
from tests.cars import ORDERS, drive, mixed


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cars", [2, 3, 8, 32])
def test_two_to_thirty_two_agents_are_detected_from_256_rows_on(cars, order):
    observations, actions, ended, _ = mixed(cars, order, 256, seed=cars)
    assert has_several_agents(observations, actions, ended)


def test_agents_that_come_in_the_middle_of_a_file_are_detected():
    alone = drive(1, 400, seed=3)
    observations, actions, ended, _ = mixed(4, "any", 600, seed=4)
    columns = (np.concatenate([a[:, 0], b]) for a, b in zip(alone, (observations, actions, ended), strict=True))
    assert has_several_agents(*columns)


def walk(rng, n, width):
    return np.cumsum(rng.normal(size=(n, width)), axis=0)


def reset_walk(rng, n, ended):
    steps, state = rng.normal(size=(n, 6)), np.zeros(6)
    rows = []
    for step, is_end in zip(steps, ended, strict=True):
        rows.append(state)
        state = np.zeros(6) if is_end else state + step
    return np.array(rows)


SINGLE = {
    "a random walk": lambda rng, n, ended: walk(rng, n, 8),
    "one observation": lambda rng, n, ended: walk(rng, n, 1),
    "jumps": lambda rng, n, ended: (
        walk(rng, n, 6) + 30 * np.cumsum(rng.random((n, 1)) < 0.1, axis=0) * rng.normal(size=6)
    ),
    "sensors with much noise": lambda rng, n, ended: walk(rng, n, 6) + 3.0 * rng.normal(size=(n, 6)),
    "only noise": lambda rng, n, ended: rng.normal(size=(n, 12)),
    "constant": lambda rng, n, ended: np.ones((n, 5)),
    "constant columns and flags": lambda rng, n, ended: np.hstack(
        [walk(rng, n, 4), np.ones((n, 4)), walk(rng, n, 3) > 0]
    ),
    "one-hot cells": lambda rng, n, ended: np.eye(25)[np.cumsum(rng.integers(0, 2, n) * 2 - 1) % 25],
    "to and fro": lambda rng, n, ended: walk(rng, n, 8) * 0.1 + (-1.0) ** np.arange(n)[:, None] * np.linspace(1, 2, 8),
    "equal episodes": lambda rng, n, ended: np.tile(walk(rng, 20, 6), (n // 20 + 1, 1))[:n],
    "short episodes": reset_walk,
    "wide observations": lambda rng, n, ended: walk(rng, n, 100),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_a_single_agent_raises_no_alarm(kind):
    for seed in range(6):
        rng, n = np.random.default_rng(seed), (256, 512, 1000)[seed % 3]
        ended = rng.random(n) < (0.3 if kind == "short episodes" else 0.01)
        observations = SINGLE[kind](rng, n, ended).astype(np.float32)
        assert not has_several_agents(observations, rng.normal(size=(n, 2)).astype(np.float32), ended)


def test_each_index_is_tested():
    """Check that agents with an index each raise no alarm, and that two cars under each of two indices do."""
    observations, actions, ended = (column.reshape(1024, *column.shape[2:]) for column in drive(4, 256, seed=5))
    own = np.tile(np.arange(4, dtype=np.int32), 256)
    assert indices_of_several(observations, actions, ended, own) == []
    assert sorted(indices_of_several(observations, actions, ended, own // 2)) == [0, 1]
    assert indices_of_several(observations, actions, ended, np.where(own < 2, 9, own).astype(np.int32)) == [9]


def test_short_files_raise_no_alarm():
    observations, actions, ended, _ = mixed(4, "any", 64)
    assert not has_several_agents(observations, actions, ended)
