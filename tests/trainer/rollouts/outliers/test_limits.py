"""The rule for one column: what is an outlier, what is not, and what it counts as."""

import numpy as np
import pytest

from trainer.rollouts.outliers.limits import FACTOR, Before, columns_to_check, find_outliers, rows_left_out

N = 4096


def rng(seed):
    return np.random.default_rng(seed)


def with_events(column, size, count, seed=0):
    """Return the column with `size` in some rows, and these rows."""
    rows = np.sort(rng(seed).choice(len(column), count, replace=False))
    column = column.copy()
    column[rows] = size
    return column, rows


def clean_columns(seed):
    """Return columns that games write, by name: none of them has an outlier."""
    r = rng(seed)
    normal = r.normal(size=N)
    shaped = r.normal(scale=2.0, size=N)
    shaped[r.random(N) < 0.004] = -100.0
    shaped[r.random(N) < 0.004] = 100.0
    cost = -0.1 * r.random(N) ** 2
    return {
        "normal": normal * 10.0 ** r.integers(-3, 6) + r.normal(),
        "uniform": r.random(N),
        "laplace": r.laplace(size=N),
        "exponential": r.exponential(size=N),
        "log-normal": r.lognormal(sigma=1.0, size=N),
        "constant": np.full(N, 3.25),
        "zeros": np.zeros(N),
        "one hot": (r.random(N) < 0.3).astype(float),
        "rare flag": (r.random(N) < 0.001).astype(float),
        "one flag": np.eye(1, N)[0],
        "zero for long, then a ramp": np.append(np.zeros(N - 30), np.linspace(1.0, 5000.0, 30)),
        "sparse +100": np.where(r.random(N) < 0.001, 100.0, 0.0),
        "one +100": np.eye(1, N)[0] * 100.0,
        "landing": shaped,
        "reached the goal, with a cost of each step": np.where(r.random(N) < 0.001, 100.0, cost),
        "clock": 1.7e9 + np.arange(N) / 60.0,
        "two levels": np.where(np.arange(N) < N // 2, r.normal(size=N), 5000.0 + r.normal(size=N)),
        "tiny": normal * 1e-30,
        "huge": normal * 3e11,
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", clean_columns(0))
def test_clean_columns_have_no_outlier_as_rewards(name, seed):
    assert find_outliers(clean_columns(seed)[name], recurs=True) is None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name in clean_columns(0) if "goal" not in name and name != "landing"])
def test_clean_columns_have_no_outlier_as_observations(name, seed):
    column = clean_columns(seed)[name]
    assert find_outliers(column, Before(1e5, float(column.mean()), 2.6 * float(column.std()))) is None
    assert find_outliers(column, long_runs=lambda is_far: is_far) is None


@pytest.mark.parametrize("size", [1e4, 1e6, 1e8, 9e11, -9e11])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_isolated_numbers_count_as_the_largest_usual_ones(size, count):
    clean = rng(1).normal(size=N)
    column, rows = with_events(clean, size, count)
    found = find_outliers(column)
    np.testing.assert_array_equal(found.rows, rows)
    assert found.largest == size
    usual = np.delete(column, rows)
    assert (found.low, found.high) == (usual.min(), usual.max())
    assert np.abs(found.values - np.median(column)).max() <= np.abs(usual - np.median(column)).max() * (1 + 1e-12)
    assert (np.sign(found.values) == np.sign(size)).all()


def reference_spread(column, before=0.0):
    """Return the spread by sorting everything, as the module's text defines it."""
    center = np.median(column)
    deviations = np.sort(np.abs(column - center))[::-1]
    varying = [d for d in deviations if d > 1e-6 * (1.0 + abs(center))]
    left_out = min(rows_left_out(len(column), 0.0), len(varying) // 2)
    return max(before, varying[left_out])


@pytest.mark.parametrize("seed", range(40))
def test_the_rule_is_that_of_a_slow_reference(seed):
    r = rng(seed)
    n = int(r.integers(24, 3000))
    column = r.standard_t(df=r.integers(1, 5), size=n) * 10.0 ** r.integers(-2, 4) + r.normal() * 100.0
    if seed % 2:
        column, _ = with_events(column, 10.0 ** r.integers(4, 12), int(r.integers(1, max(2, n // 50))), seed)
    spread, center = reference_spread(column), np.median(column)
    expected = np.flatnonzero(np.abs(column - center) > FACTOR * spread)
    found = find_outliers(column)
    assert expected.tolist() == ([] if found is None else found.rows.tolist())
    if found is not None:  # whatever is not named has not changed, and all is within the limit afterwards
        limited = column.copy()
        limited[found.rows] = found.values
        assert np.abs(limited - center).max() <= FACTOR * spread


@pytest.mark.parametrize("seed", range(30))
def test_the_quick_check_skips_no_column_with_outliers(seed):
    r = rng(seed)
    n = int(r.integers(2, 2000))
    columns = np.stack(list({name: column[:n] for name, column in clean_columns(seed).items()}.values()), axis=1)
    some = r.random(columns.shape) < 10.0 ** r.integers(-4, -1)
    columns[some] = 10.0 ** r.integers(0, 12, size=int(some.sum()))
    spread = np.where(r.random(columns.shape[1]) < 0.5, 2.6, 0.0)
    checked = set(columns_to_check(columns, spread, 1e4).tolist())
    for index in set(range(columns.shape[1])) - checked:
        assert find_outliers(columns[:, index], Before(1e4, 0.0, float(spread[index]))) is None, index


def test_a_reward_counts_if_it_is_usual_recurs_or_was_earned_before():
    cost = -0.1 * rng(0).random(N)
    for size, count, recurs in ((100.0, 1, True), (300.0, 3, True), (300.0, 1, False), (-1e6, 2, False)):
        found = find_outliers(with_events(cost, size, count)[0], recurs=True)
        assert (found is None) == recurs
        if found is not None:
            assert np.abs(found.values).max() <= 1.01 * np.abs(cost).max()
    assert find_outliers(with_events(cost, 300.0, 1)[0], Before(N, 0.0, 2 * 300.0 / FACTOR), recurs=True) is None


@pytest.mark.parametrize("usual", [0.0, 0.3])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_huge_reward_among_equal_ones_counts_as_one_of_them(usual, count):
    column, rows = with_events(np.full(N, usual), 9e11, count)
    found = find_outliers(column, recurs=True)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.values, usual)


def test_what_lasts_counts_and_what_a_tenth_of_the_rows_contain_is_usual():
    column = rng(0).normal(size=N)
    column[100:110] = 1000.0
    column[200] = 1000.0
    found = find_outliers(column, long_runs=lambda is_far: is_far & (np.arange(N) < 150))
    assert found.values.min() > 200.0  # seen, and it widens the usual range
    assert find_outliers(np.where(rng(1).random(N) < 0.12, 1e6, column), Before(1e5, 0.0, 2.6)) is None


def test_earlier_rows_decide_about_a_few():
    before = Before(1e4, 0.0, 2.6)
    assert find_outliers(np.array([0.1, 9e11, -0.3]), before).rows.tolist() == [1]
    assert find_outliers(np.array([9e11, 9e11]), before).rows.tolist() == [0, 1]
    assert find_outliers(np.array([0.1, 50.0, -0.3])) is None  # nothing to compare with


def test_a_quarter_of_a_rollout_is_not_left_out_for_one_intermittent_sensor():
    column, rows = with_events(rng(0).normal(size=N), 1e6, N // 50)
    assert find_outliers(column) is None  # two rows of a hundred: the game may be like this
    np.testing.assert_array_equal(find_outliers(column, Before(1e5, 0.0, 2.6)).rows, rows)  # earlier rows say no
