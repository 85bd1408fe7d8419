"""Rollouts and caches stay within their part of the disk; unused rollouts are never removed for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.publishing import retention
from daemon.publishing.disk_budget import DAY_S, GB, DiskUse, measure, over_budget, per_day
from tests.faults.support.harness import InstantHarness, violations


def use(**changes) -> DiskUse:
    usual = {"used": int(2 * GB), "removable": int(2 * GB), "limit": int(50 * GB), "free": int(300 * GB)}
    return DiskUse(**(usual | {"per_day": None} | changes))


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(-100, 40_000))
def test_as_few_of_the_oldest_files_as_possible_are_removed(sizes, excess):
    names = [f"rollout_{k}.json" for k in range(len(sizes))]
    chosen = over_budget(names, dict(zip(names, sizes, strict=True)), excess=excess)
    assert chosen == names[: len(chosen)]
    assert sum(sizes[: len(chosen)]) >= excess or chosen == names
    assert sum(sizes[: max(0, len(chosen) - 1)]) < max(1, excess)


def test_growth_is_per_day_and_unknown_in_the_first_minutes():
    assert per_day(5e6, 60.0) is None
    assert per_day(5e6, 3600.0) == pytest.approx(24 * 5e6)
    assert per_day(5e6, 7 * DAY_S) == pytest.approx(5e6)


def test_the_forecast_says_when_the_limit_is_reached():
    assert use().short() == "2.0 of 50.0 GB"
    assert use(per_day=20 * GB).short() == "2.0 of 50.0 GB, full in 2 days"
    assert use(per_day=20 * GB).sentence() == (
        "rollouts and caches take 2.0 GB of 50.0 GB that they may take, 20.0 GB more each day;"
        " the oldest used rollouts are removed in 2 days"
    )
    assert use(used=int(50 * GB), per_day=GB).short() == "50.0 of 50.0 GB, limit reached"
    assert (
        use(used=int(50 * GB), per_day=GB).sentence().endswith("the oldest used rollouts are removed after each cycle")
    )
    assert (
        use(limit=0, per_day=400 * GB)
        .sentence()
        .endswith("the disk is full in 18 hours -> set daemon.disk_budget_gb, or free some space")
    )
    assert use(free=int(4 * GB), per_day=GB).short() == "2.0 of 50.0 GB, disk full in 4 days"


def test_the_forecast_names_unused_rollouts_that_exceed_the_limit():
    sentence = use(used=int(60 * GB), removable=int(1 * GB), per_day=GB).sentence()
    assert sentence.endswith("59.0 GB were not used by a cycle yet and are never removed")


def test_only_the_oldest_used_rollouts_are_removed_and_with_their_caches(tmp_path):
    with InstantHarness(tmp_path) as harness:
        harness.run_cycle(10)
        harness.run_cycle(20)
        whole = measure(harness.paths, harness.ledger, harness.clock, budget_gb=50.0)
        assert whole.removable == whole.used == tree_bytes(harness)
    with InstantHarness(tmp_path, disk_budget_gb=whole.used / GB) as harness:
        harness.write_rollouts(30, 31, 32)
        harness.until(lambda: harness.ledger.last_cycle_id() == 3 and not harness.runner.busy)
        left = sorted(path.name.split("_")[1] for path in harness.paths.exports.iterdir())
        assert left[-3:] == ["30", "31", "32"]
        assert set(left) < {"10", "11", "20", "21", "30", "31", "32"}
        assert left == sorted(left)
        assert "20" in left or "21" in left
        assert tree_bytes(harness) <= whole.used
        assert any("oldest used rollouts" in line for line in harness.log.lines)
    assert not violations(tmp_path)


def test_unused_rollouts_stay_even_if_they_alone_exceed_the_budget(tmp_path):
    with InstantHarness(tmp_path, disk_budget_gb=1e-6) as harness:
        harness.run_cycle(10)
        assert not list(harness.paths.exports.iterdir()), "1 kB: both used rollouts are removed"
        harness.context.ledger.set_meta("paused", "1")
        harness.write_rollouts(20, 21)
        harness.until(lambda: harness.ledger.pending_count() == 2)
        retention.apply_retention(harness.context, 1, harness.inbox)
        assert len(list(harness.paths.exports.iterdir())) == 2
        assert len(list(harness.paths.cache.iterdir())) == 2


def tree_bytes(harness: InstantHarness) -> int:
    return sum(
        path.stat().st_size for folder in (harness.paths.exports, harness.paths.cache) for path in folder.iterdir()
    )
