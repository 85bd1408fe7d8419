"""The tracks of agents that share an index are recovered, and the confidence shows how well."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.tracks.assignment import assigned
from schemas.tracks.recovery import recovered
from schemas.tracks.step_model import Links
from schemas.tracks.ticks import tick_starts
from tests.cars import ORDERS, mixed, next_rows

NOBODY_ENDS = np.zeros(1, dtype=bool)


def compared(cars, order, rows, **options):
    """Return the tracks, the share of steps that are found, and the share of those that are right."""
    observations, actions, ended, agents = mixed(cars, order, rows, **options)
    tracks = recovered(observations, actions, ended)
    right = next_rows(agents, ended)
    got = next_rows(tracks.track, np.broadcast_to(NOBODY_ENDS, rows))
    good = got[got >= 0] == right[got >= 0]
    return tracks, good.sum() / (right >= 0).sum(), good.mean()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("cars", "rows"), [(2, 256), (5, 1024), (32, 1024)])
def test_nearly_all_steps_are_found_and_right(cars, rows, order):
    tracks, found, right = compared(cars, order, rows, seed=cars)
    assert found > 0.95
    assert right > 0.98
    assert abs(tracks.confidence - found) < 0.1
    if order != "come and go":
        assert tracks.agents == cars


def test_a_track_ends_with_its_episode():
    observations, actions, ended, _ = mixed(4, "any", 800, ends=0.1)
    tracks = recovered(observations, actions, ended)
    assert ended.sum() > 50
    for row in np.flatnonzero(ended):
        assert not (tracks.track[row + 1 :] == tracks.track[row]).any()


def test_the_confidence_is_low_if_sensors_are_too_noisy():
    tracks, found, _ = compared(8, "any", 512, noise=2.0)
    assert found < 0.8
    assert tracks.confidence < 0.8


def test_rows_that_do_not_vary_have_no_confidence():
    n = 256
    tracks = recovered(np.ones((n, 3), np.float32), np.zeros((n, 1), np.float32), np.zeros(n, bool))
    assert tracks.confidence == 0.0


def test_ticks_follow_the_number_of_agents():
    sizes = [4, 4, 4, 3, 3, 5, 5, 5, 2, 2, 2, 2]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [
        (begin + k, middle + (k + 1) % min(middle - begin, end - middle))
        for begin, middle, end in zip(starts, starts[1:], starts[2:], strict=False)
        for k in range(min(middle - begin, end - middle))
    ]
    links = Links(*np.array(pairs).T)
    assert tick_starts(links, int(starts[-1])).tolist() == starts.tolist()


def test_ticks_survive_some_wrong_links():
    rng, starts = np.random.default_rng(0), np.arange(0, 401, 8)
    before = np.arange(392)
    after = np.concatenate([begin + 8 + rng.permutation(8) for begin in starts[:-2]])
    wrong = rng.random(392) < 0.1
    after[wrong] = before[wrong] + rng.integers(1, 16, wrong.sum())
    assert tick_starts(Links(before, after), 400).tolist() == starts.tolist()


def test_a_step_with_two_equal_successors_is_improbable():
    costs = np.full((3, 4), np.inf)  # rows 0 and 1, then 2 and 3: [lag - 1, row]
    costs[1, 0], costs[2, 0] = 1.0, 1.0  # row 0 -> 2 and 3 are equally good
    costs[0, 1], costs[1, 1] = 400.0, 400.0
    links, probability = assigned(costs, np.array([0, 2, 4]), Links(np.array([0]), np.array([2])))
    assert probability[links.before.tolist().index(0)] <= 0.5
