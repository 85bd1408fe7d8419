"""Retention removes only used rollouts and old cycles, and never the best cycle."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from daemon.ledger.records import FileSignature
from daemon.publishing.retention import (
    best_cycle,
    remove_if_unchanged,
    remove_old_logs,
    remove_unneeded_arrays,
    surplus_cycles,
    surplus_exports,
)
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness
from tests.helpers import make_rollout, v1_document, write_rollout

USED = [("a", 0.5), ("b", 0.1), ("c", 0.9)]


def test_without_a_limit_nothing_is_removed():
    assert surplus_exports(USED, present=3, limit=0, by="age") == []


def test_the_oldest_or_the_worst_files_are_removed_first():
    assert surplus_exports(USED, present=3, limit=1, by="age") == ["a", "b"]
    assert surplus_exports(USED, present=3, limit=1, by="quality") == ["b", "a"]


def test_unused_rollouts_stay_even_over_the_limit():
    assert surplus_exports(USED, present=10, limit=2, by="age") == ["a", "b", "c"]


@given(st.dictionaries(st.integers(0, 60), st.floats(-1e6, 1e6)), st.sets(st.integers(0, 60)), st.integers(5, 25))
def test_the_newest_the_named_and_the_young_cycles_are_kept(ages, always, keep):
    removed = set(surplus_cycles(ages, keep_newest=keep, always=always))
    assert not removed & always
    assert not removed & set(sorted(ages)[-keep:])
    assert all(ages[cycle] > 3600.0 for cycle in removed)


def test_the_best_cycle_is_the_one_whose_model_earned_the_most():
    assert best_cycle({2: 0.9, 0: 0.1, 1: 0.2, 3: 0.9}) == 2
    assert best_cycle({}) is None


def test_a_file_that_has_changed_is_not_removed(tmp_path):
    path = tmp_path / "rollout_1.json"
    path.write_text("one")
    info = path.lstat()
    same = FileSignature.of(info)
    old = FileSignature(same.size, same.mtime_ns - 1, same.inode)
    assert not remove_if_unchanged(tmp_path, path.name, old)
    assert path.exists()
    assert remove_if_unchanged(tmp_path, path.name, same)
    assert not path.exists()


def test_only_unneeded_arrays_are_removed(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    for name in ("a" * 64, "b" * 64, "notes"):
        paths.cached_rollout(name).write_bytes(b"x")
    remove_unneeded_arrays(paths, {"a" * 64})
    assert sorted(path.stem for path in paths.cache.iterdir()) == ["a" * 64, "notes"]


def test_the_newest_cycle_logs_and_all_other_files_stay(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    others = ("cycle_12.log", "daemon.log", "warm_trainer.log", "cycle_1.txt")
    for name in ("cycle_9.log", "cycle_10.log", "cycle_11.log", *others):
        (paths.logs / name).write_bytes(b"x")
    remove_old_logs(paths, own_up_to=11, keep_newest=2)
    left = {path.name for path in paths.logs.iterdir()}
    assert left == {"cycle_10.log", "cycle_11.log", *others}


def test_the_folder_of_the_cycle_that_earned_most_is_kept(tmp_path):
    with InstantHarness(tmp_path, keep_cycles=5) as harness:
        harness.clock.wall = 4e9  # every folder is older than an hour
        harness.until_version(0)
        for version in range(1, 10):
            reward = 100.0 if version == 3 else -1.0  # recorded with the model of cycle 2
            for number in (10 * version, 10 * version + 1):
                document = v1_document(make_rollout(n=8, seed=number))
                for experience in document["experiences"]:
                    experience["reward"] = reward
                write_rollout(harness.paths.exports, number, json.dumps(document).encode())
            harness.until_version(version)
        left = {int(path.name.removeprefix("cycle_")) for path in harness.paths.models.glob("cycle_*")}
    assert left == {2, 5, 6, 7, 8, 9}
