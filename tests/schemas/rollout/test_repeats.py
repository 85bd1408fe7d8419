"""Repeated rows are found in every order in which exporters repeat them, and rows of a game with few states are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from schemas.rollout.repeats import (
    RowSummary,
    find_repeats,
    row_hashes,
    rows_from_text,
    rows_to_text,
    without_rows,
)
from schemas.rollout.rollout import Rollout
from tests.helpers import make_rollout


def part(rollout: Rollout, rows) -> Rollout:
    """Return a rollout with these rows, in this order."""
    columns = [f.name for f in dataclasses.fields(rollout) if isinstance(getattr(rollout, f.name), np.ndarray)]
    columns = [name for name in columns if not name.startswith("final_")]
    return dataclasses.replace(rollout, **{name: getattr(rollout, name)[rows] for name in columns})


def summaries(*rollouts: Rollout) -> list[RowSummary]:
    return [RowSummary.of(f"rollout_{k}.json", rollout) for k, rollout in enumerate(rollouts, 1)]


def repeated(new: Rollout, *earlier: Rollout) -> list[int]:
    """Return the rows of `new` that count as repeated."""
    found = find_repeats(RowSummary.of("new", new), summaries(*earlier))
    return np.flatnonzero(rows_from_text(found.rows, new.size)).tolist() if found.count else []


@pytest.fixture(scope="module")
def game() -> Rollout:
    """Return 128 ticks of 4 agents, of which files are cut."""
    return make_rollout(n=512, seed=1)


def test_a_cumulative_export_counts_only_its_new_rows(game):
    files = [part(game, slice(0, 128 * k)) for k in (1, 2, 3)]
    assert repeated(files[1], files[0]) == list(range(128))
    assert repeated(files[2], files[0], files[1]) == list(range(256))
    assert repeated(files[2], files[0]) == list(range(128)), "the file between was never written"


def test_a_sliding_window_counts_only_its_new_rows(game):
    files = [part(game, slice(64 * k, 64 * k + 256)) for k in range(4)]
    assert repeated(files[3], *files[:3]) == list(range(192))


def test_a_ring_buffer_that_writes_new_rows_over_old_ones_is_recognised(game):
    full, later = part(game, slice(0, 256)), part(game, [*range(256, 320), *range(64, 256)])
    assert repeated(later, full) == list(range(64, 256))


def test_the_order_of_rows_and_the_names_of_agents_do_not_matter(game):
    """An exporter may sort its whole buffer again, in an unstable way, and recovered tracks have other names."""
    order = np.random.default_rng(0).permutation(256)
    later = part(game, order)
    later = dataclasses.replace(later, agents=later.agents[::-1].copy())
    assert repeated(later, part(game, slice(0, 128))) == np.flatnonzero(order < 128).tolist()


def test_files_that_arrive_in_the_wrong_order_count_each_row_once(game):
    longer, shorter = part(game, slice(0, 256)), part(game, slice(0, 128))
    assert repeated(longer) == []
    assert repeated(shorter, longer) == list(range(128))


def test_a_file_with_the_same_rows_is_the_same_play_again_and_not_a_repetition(game):
    found = find_repeats(RowSummary.of("new", game), summaries(make_rollout(n=512, seed=2), game))
    assert (found.is_same, found.count, found.earlier) == (True, 0, "rollout_2.json")


@pytest.mark.parametrize("seed", range(3))
def test_other_rows_are_not_repeated(game, seed):
    other = make_rollout(n=512, seed=seed + 10)
    assert repeated(other, game) == []
    assert not find_repeats(RowSummary.of("new", other), summaries(game)).is_nearly_same


def test_agents_that_stand_still_repeat_their_own_rows_and_not_an_earlier_file():
    """A few agents rest in three states, twice or more often in each file; all other rows differ."""
    still = part(make_rollout(n=3, seed=7), [0, 1, 2] * 6)
    files = [make_rollout(n=1024, seed=seed) for seed in (8, 9)]
    for rollout in files:
        for name in ("observations", "actions", "rewards", "log_probs"):
            column = getattr(rollout, name).copy()
            column[100:1000:50] = getattr(still, name)
            object.__setattr__(rollout, name, column)
    assert repeated(files[1], files[0]) == []
    cumulative = part(files[0], slice(0, 512))
    assert repeated(files[0], cumulative)[:200] == list(range(200)), "a real repetition with such rows is one"


def test_a_buffer_that_stores_each_row_twice_counts_each_once(game):
    for rows in (np.repeat(np.arange(100), 2), np.tile(np.arange(100), 2)):
        found = find_repeats(RowSummary.of("new", part(game, rows)), [])
        assert (found.count, found.copies) == (100, 2)
    doubled = part(game, np.repeat(np.arange(200), 2))
    assert len(repeated(doubled, part(game, np.repeat(np.arange(100), 2)))) == 300


def test_zero_and_minus_zero_and_all_nans_are_equal(game):
    zero, nan = (np.where(np.arange(512) % 2, value, game.log_probs).astype("f4") for value in (0.0, np.nan))
    negative = np.copysign(zero, np.where(zero == 0, -1.0, zero)).astype("f4")
    same = [dataclasses.replace(game, log_probs=column) for column in (zero, negative)]
    np.testing.assert_array_equal(row_hashes(same[0]), row_hashes(same[1]))
    odd = nan.view("u4").copy()
    odd[1::2] = 0xFFC12345
    same = [dataclasses.replace(game, log_probs=column) for column in (nan, odd.view("f4"))]
    np.testing.assert_array_equal(row_hashes(same[0]), row_hashes(same[1]))
    assert len(np.unique(row_hashes(game))) == 512


# Games with few states


def small_game(n: int, *, states: int = 6, seed: int = 0, greed: float = 0.6) -> Rollout:
    """Return rows of a game with six states and three moves: most rows equal others."""
    rng = np.random.default_rng(seed)
    state, rows = 0, []
    for _ in range(n):
        move = 0 if rng.random() < greed else int(rng.integers(1, 3))
        rows.append((state, move))
        state = 0 if state == states - 1 else (state + 1 if move == 0 else max(0, state - 1))
    at, moves = (np.array(column) for column in zip(*rows, strict=True))
    rollout = make_rollout(n=n, observation_size=states, agents=1)
    logp = np.where(moves == 0, np.log(greed), np.log((1 - greed) / 2)).astype("f4")
    return dataclasses.replace(
        rollout,
        observations=np.eye(states, dtype="f4")[at],
        actions=np.eye(3, dtype="f4")[moves],
        rewards=(at == states - 1).astype("f4"),
        log_probs=logp,
    )


def test_rows_of_a_game_with_few_states_are_kept():
    assert repeated(small_game(512, seed=1), *(small_game(512, seed=k) for k in range(2, 12))) == []
    assert repeated(small_game(500, greed=0.999999), small_game(512, greed=0.999999)) == [], "it has six kinds of rows"


def test_a_cumulative_export_of_a_game_with_few_states_is_recognised_by_its_order():
    whole = small_game(900, states=30)
    assert repeated(part(whole, slice(0, 600)), part(whole, slice(0, 300))) == list(range(300))
    assert repeated(part(whole, slice(200, 800)), part(whole, slice(0, 600))) == list(range(400))


# Nearly the same


@pytest.mark.parametrize(("noise", "is_same"), [(1e-6, True), (1e-3, True), (0.5, False)])
def test_a_game_that_repeats_itself_with_small_differences_is_noticed(game, noise, is_same):
    rng = np.random.default_rng(3)
    observations = game.observations + noise * rng.normal(size=game.observations.shape)
    again = dataclasses.replace(game, observations=observations.astype("f4"), rewards=game.rewards + 1)
    found = find_repeats(RowSummary.of("new", again), summaries(game))
    assert (found.is_nearly_same, found.count) == (is_same, 0)


# Leaving rows out


def test_the_last_row_of_each_agent_in_the_earlier_file_remains_as_context(game):
    game = dataclasses.replace(game, terminated=np.zeros(512, bool))
    mask = np.arange(512) < 256
    left = without_rows(game, mask)
    np.testing.assert_array_equal(left.observations, game.observations[252:])
    assert left.after_gap.tolist() == [True] * 4 + [False] * 256


def test_a_row_that_ended_an_episode_is_not_needed_as_context(game):
    ended = np.zeros(512, bool)
    ended[252:256] = True
    left = without_rows(dataclasses.replace(game, terminated=ended), np.arange(512) < 256)
    assert left.size == 256


def test_the_original_of_a_copy_is_the_row_before_the_next(game):
    doubled = part(game, np.repeat(np.arange(128), 2))
    left = without_rows(doubled, np.arange(256) % 2 == 1)
    np.testing.assert_array_equal(left.observations, game.observations[:128])
    assert not left.after_gap.any()


def test_final_observations_remain_only_behind_rows_that_remain(game):
    finals = dataclasses.replace(
        game, final_observations=np.ones((2, 15), "f4"), final_agents=np.array([0, 3], np.int32)
    )
    mask = np.zeros(512, bool)
    mask[400:] = game.agents[400:] == 3
    left = without_rows(finals, mask)
    assert left.final_agents.tolist() == [0]
    assert len(left.final_observations) == 1


@pytest.mark.parametrize("size", [1, 7, 8, 2048])
def test_rows_survive_the_way_through_text(size):
    mask = np.random.default_rng(size).random(size) < 0.5
    np.testing.assert_array_equal(rows_from_text(rows_to_text(mask), size), mask)
    with pytest.raises(ValueError, match="bytes for"):
        rows_from_text(rows_to_text(mask), size + 8)
    with pytest.raises(ValueError, match="incorrect header"):
        rows_from_text("bm90IG91cnM=", size)


def test_the_text_of_a_long_repetition_is_short():
    assert len(rows_to_text(np.arange(100_000) < 77_777)) < 120
