"""Rows of simple cars, and the ways in which engines mix the rows of several agents."""

from __future__ import annotations

import dataclasses

import numpy as np

from schemas.rollout.rollout import Rollout
from tests.helpers import make_rollout

WIDTH = 15
ORDERS = ("fixed", "any", "come and go")


def drive(cars: int, ticks: int, *, seed: int = 0, noise: float = 0.0, ends: float = 0.01):
    """Return observations [ticks, cars, 15], actions [ticks, cars, 3] and ends [ticks, cars] of cars on a round track.

    A car that ends starts at another place in the next tick.
    """
    rng = np.random.default_rng(seed)
    sensors, shifts = rng.normal(size=(3, WIDTH)), rng.uniform(0.0, 6.0, WIDTH)
    place, offset, speed = rng.uniform(0, 6.28, cars), rng.normal(size=cars), rng.uniform(0.02, 0.2, cars)
    rows = [], [], []
    for _ in range(ticks):
        seen = (
            np.sin(place[:, None] * (1 + np.arange(WIDTH) % 3) + shifts)
            + np.stack([offset, speed * 8, offset * speed], 1) @ sensors
        )
        action = np.clip(rng.normal(size=(cars, 3)), [-1, 0, 0], 1)
        ended = rng.random(cars) < ends
        for column, value in zip(rows, (seen + noise * rng.normal(size=seen.shape), action, ended), strict=True):
            column.append(value)
        speed = np.clip(speed + 0.02 * (action[:, 1] - action[:, 2]), 0.0, 0.25)
        place, offset = place + speed, np.clip(offset + 0.1 * action[:, 0], -2.0, 2.0)
        place[ended], offset[ended] = rng.uniform(0, 6.28, ended.sum()), rng.normal(size=ended.sum())
    return np.array(rows[0], np.float32), np.array(rows[1], np.float32), np.array(rows[2])


def mixed(cars: int, order: str, rows: int, *, seed: int = 0, noise: float = 0.0, ends: float = 0.01):
    """Return observations, actions, ends and the right agents of `rows` rows that several cars wrote in turns.

    A car that comes again has another number.
    """
    ticks = -(-3 * rows // cars)
    observations, actions, ended = drive(cars, ticks, seed=seed, noise=noise, ends=ends)
    rng = np.random.default_rng(seed)
    present = np.ones((ticks, cars), dtype=bool)
    if order == "come and go":
        length = np.array([20, 33, 14, 41])
        for car in range(cars):
            present[:, car] = (np.arange(ticks) + 7 * car) % (length[car % 4] + 10) < length[car % 4]
    came = np.cumsum(present & ~np.vstack([np.zeros((1, cars), bool), present[:-1]]), axis=0)
    tick, car = np.nonzero(present)
    if order != "fixed":
        shuffled = np.lexsort((rng.random(len(tick)), tick))
        tick, car = tick[shuffled], car[shuffled]
    tick, car = tick[:rows], car[:rows]
    return observations[tick, car], actions[tick, car], ended[tick, car], car + cars * came[tick, car]


def shared_index_rollout(
    cars: int = 6, order: str = "any", *, n: int = 512, seed: int = 0, noise: float = 0.0
) -> Rollout:
    """Return a rollout of several cars that all have the agent_index 0."""
    observations, actions, ended, _ = mixed(cars, order, n, seed=seed, noise=noise)
    columns = {"observations": observations, "actions": actions, "terminated": ended}
    return dataclasses.replace(make_rollout(n=n, seed=seed), **columns, agents=np.zeros(n, dtype=np.int32))


def next_rows(agents: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Return the next row of each row's agent in its episode; -1 without one."""
    following, last = np.full(len(agents), -1), {}
    for row, agent in enumerate(agents.tolist()):
        before = last.get(agent)
        if before is not None and not ended[before]:
            following[before] = row
        last[agent] = row
    return following
