"""What may be removed: only used rollouts, only old cycles, never the best and never what is new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.ledger.records import FileSignature
from daemon.publishing.retention import (
    best_cycle,
    prune_cache,
    remove_if_unchanged,
    remove_old_logs,
    surplus_cycles,
    surplus_exports,
)
from schemas.storage.layout import ProjectPaths

USED = [("a", 0.5), ("b", 0.1), ("c", 0.9)]


def test_no_limit_removes_nothing():
    assert surplus_exports(USED, present=3, limit=0, by="age") == []


def test_the_oldest_or_the_worst_go_first():
    assert surplus_exports(USED, present=3, limit=1, by="age") == ["a", "b"]
    assert surplus_exports(USED, present=3, limit=1, by="quality") == ["b", "a"]


def test_rollouts_that_were_not_used_yet_stay_even_over_the_limit():
    assert surplus_exports(USED, present=10, limit=2, by="age") == ["a", "b", "c"]


@given(st.dictionaries(st.integers(0, 60), st.floats(-1e6, 1e6)), st.sets(st.integers(0, 60)), st.integers(5, 25))
def test_newest_named_and_young_cycles_are_kept(ages, always, keep):
    removed = set(surplus_cycles(ages, keep_newest=keep, always=always))
    assert not removed & always
    assert not removed & set(sorted(ages)[-keep:])
    assert all(ages[cycle] > 3600.0 for cycle in removed)


def test_the_best_cycle_is_the_one_whose_model_earned_the_most():
    # Cycle 3 was triggered by rollouts that the model of cycle 2 played.
    assert best_cycle({2: 0.9, 0: 0.1, 1: 0.2, 3: 0.9}) == 2
    assert best_cycle({}) is None


def test_a_file_that_is_another_by_now_is_not_removed(tmp_path):
    path = tmp_path / "rollout_1.json"
    path.write_text("one")
    info = path.lstat()
    old = FileSignature(info.st_size, info.st_mtime_ns - 1, info.st_ino)
    assert not remove_if_unchanged(tmp_path, path.name, old)
    assert path.exists()
    assert remove_if_unchanged(tmp_path, path.name, FileSignature(info.st_size, info.st_mtime_ns, info.st_ino))
    assert not path.exists()


def test_only_arrays_that_nobody_needs_leave_the_cache(tmp_path):
    layout = ProjectPaths(tmp_path)
    layout.make()
    for name in ("aa", "bb"):
        layout.cached_rollout(name).write_bytes(b"x")
    prune_cache(layout, {"aa"})
    assert [path.stem for path in layout.cache.iterdir()] == ["aa"]


def test_the_newest_logs_of_cycles_stay_and_every_other_file(tmp_path):
    layout = ProjectPaths(tmp_path)
    layout.make()
    for name in ("cycle_9.log", "cycle_10.log", "cycle_11.log", "daemon.log", "warm_trainer.log", "cycle_1.txt"):
        (layout.logs / name).write_bytes(b"x")
    remove_old_logs(layout, keep_newest=2)
    left = {path.name for path in layout.logs.iterdir()}
    assert left == {"cycle_10.log", "cycle_11.log", "daemon.log", "warm_trainer.log", "cycle_1.txt"}
