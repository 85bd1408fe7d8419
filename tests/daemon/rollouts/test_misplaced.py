"""Rollouts in sub-folders or under other names are reported with their number, an example and the remedy."""

from __future__ import annotations

import pytest

from daemon.rollouts import misplaced
from daemon.rollouts.misplaced import find_misplaced, may_be_a_rollout
from tests.faults.support.harness import InstantHarness
from tests.helpers import write_rollout
from tests.platforms import make_link


@pytest.mark.parametrize(
    "name",
    ["Rollout0.json", "rollout0.json", "rollout_0_20260101.json.txt", "episode 3.JSON", "rollout_0.jsonl", "a.json.gz"],
)
def test_a_json_file_with_another_name_may_be_a_rollout(name):
    assert may_be_a_rollout(name)


@pytest.mark.parametrize(
    "name", ["rollout_0.json", "rollout_0.json.tmp", ".rollout_0.json", "~rollout.json", "notes.txt", "json", "a.jpg"]
)
def test_rollouts_temporary_files_and_other_files_are_not_misplaced(name):
    assert not may_be_a_rollout(name)


def test_sub_folders_and_other_names_are_counted_apart(tmp_path):
    for folder in ("Session_1", "Session_2/day", "Session_2/day/a/b/too_deep", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "rollout_1_x.json").touch()
    (tmp_path / "rollout_5.json").touch()
    (tmp_path / "Rollout0.json").touch()
    nested, misnamed = find_misplaced(tmp_path)
    assert (nested.count, nested.example) == (2, "Session_1/rollout_1_x.json")
    assert nested.sentence() == (
        "2 files in sub-folders of Exports are not read (Session_1/rollout_1_x.json)"
        " -> let the engine write to Exports itself, or move them there"
    )
    assert (misnamed.count, misnamed.example) == (1, "Rollout0.json")
    assert "are not named rollout_<i>_<YYYYMMDD_HHMMSS>.json" in misnamed.sentence()


def test_a_large_tree_is_searched_only_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(misplaced, "MAX_ENTRIES", 10)
    (tmp_path / "old").mkdir()
    for number in range(50):
        (tmp_path / "old" / f"rollout_{number}.json").touch()
    [nested] = find_misplaced(tmp_path)
    assert nested.count == 10


def test_a_linked_folder_is_not_searched(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rollout_1.json").touch()
    (tmp_path / "exports").mkdir()
    make_link(tmp_path / "exports" / "link", tmp_path / "elsewhere")
    assert find_misplaced(tmp_path / "exports") == find_misplaced(tmp_path / "missing") == ()


def test_the_daemon_warns_until_the_files_are_moved_to_the_right_place(tmp_path):
    with InstantHarness(tmp_path) as harness:
        folder = harness.paths.exports / "Session_1"
        folder.mkdir()
        paths = [write_rollout(folder, number) for number in (1, 2)]
        harness.until(lambda: "W_MISPLACED" in harness.warnings())
        error = harness.service.nothing_to_train_on(again=False)
        assert "contains no rollouts, but 2 files in sub-folders of Exports are not read" in error.line()
        for path in paths:
            path.rename(harness.paths.exports / path.name)
        harness.until_version(1)
        harness.until(lambda: "W_MISPLACED" not in harness.warnings())
