"""Saved progress is continued, or kept in another folder. Labels are never removed."""

import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from schemas.errors import ConfigError
from tests.platforms import needs_posix
from trainer.dagger.inputs import FORMAT, Inputs
from trainer.dagger.kept_work import ProgressError, keep_results
from trainer.dagger.settings import DaggerSettings
from trainer.dagger.training.dataset import RoundWriter, round_folder
from trainer.dagger.training.episodes import EpisodeStatistics
from trainer.dagger.training.progress_store import (
    CompletedRound,
    ExpertEvaluation,
    MilestoneProgress,
    labels_folder,
    load_progress,
    save_progress,
)

SETTINGS = DaggerSettings().model_dump(mode="json")
DOCUMENT = {
    "format": FORMAT, "milestone": {"id": "A", "max_steps": 60}, "env": "racing", "env_options": {},
    "settings": SETTINGS, "expert": "1", "start": None, "observations": [[3], False, 0.0, None], "actions": {},
}  # fmt: skip


def inputs(**changes):
    document = {**DOCUMENT, **changes}
    return Inputs(document, str(sorted(changes)))


INPUTS = inputs()
OTHER_EXPERT = inputs(expert="2")
OTHER_CONFIG = inputs(milestone={"id": "A", "max_steps": 30})
OTHER_SHAPE = inputs(observations=[[4], False, 0.0, None])


def save_rounds(folder, count):
    """Save progress with two labels in each round; the second round is the best."""
    progress = MilestoneProgress(INPUTS, expert=ExpertEvaluation(EpisodeStatistics(1.0, 20.0, 0.0), ((True, 20),), 40))
    for number in range(count):
        writer = RoundWriter(labels_folder(folder), number)
        writer.add(np.zeros((2, 3), np.float32), np.zeros(2, np.int64))
        writer.finish()
        evaluation = EpisodeStatistics(0.5 + 0.25 * (number == 1), 30.0, 1.0)
        done = CompletedRound(1.0, 2 * (number + 1), 0.1, evaluation, 0.5, 3.0, 1.0)
        progress = progress.with_round(done, {"network": {"w": torch.full((2,), float(number))}})
    save_progress(folder, progress)
    return progress


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def forbidden(path):
    """Take the right to read a file or folder away, from root as well: root becomes another user for a while."""
    mode = path.stat().st_mode
    path.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(mode)


def test_saved_progress_is_continued(tmp_path):
    saved = save_rounds(tmp_path, 3)
    loaded, note = load_progress(tmp_path, INPUTS)
    assert note == "continues after round 3"
    assert (loaded.expert, loaded.rounds, loaded.best_round, loaded.final) == (saved.expert, saved.rounds, 1, None)
    assert torch.equal(loaded.best["network"]["w"], torch.ones(2))
    assert torch.equal(loaded.learner["network"]["w"], torch.full((2,), 2.0))


def test_without_saved_progress_it_is_new(tmp_path):
    assert load_progress(tmp_path / "none", INPUTS) == (MilestoneProgress(INPUTS), "")


def test_round_that_was_interrupted_does_not_count(tmp_path):
    save_rounds(tmp_path, 2)
    interrupted = round_folder(labels_folder(tmp_path), 2)
    interrupted.mkdir()
    (interrupted / "observations_0000.npy").write_bytes(b"half")
    loaded, _ = load_progress(tmp_path, INPUTS)
    assert len(loaded.rounds) == 2


@needs_posix("mode bits")
@pytest.mark.parametrize(
    "place",
    ["", "progress.pt", "data/round_0001/labels_0000.npy", "data/round_0001/observations_0000.npy"],
    ids=["the folder", "progress.pt", "labels", "observations"],
)
def test_progress_without_read_permission_stops_the_milestone_unchanged(tmp_path, place):
    """As after one run with sudo."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)  # another user must get as far as the folder
    folder = tmp_path / "work" / "A"
    save_rounds(folder, 2)
    before = content(tmp_path)
    path = folder / place if place else folder
    with forbidden(path), pytest.raises(ProgressError) as caught:
        load_progress(folder, INPUTS)
    assert "cannot be read: Permission denied -> correct its permissions" in str(caught.value)
    assert "nothing was removed" in str(caught.value)
    assert content(tmp_path) == before


def test_disk_error_stops_the_milestone_unchanged(tmp_path, monkeypatch):
    save_rounds(tmp_path / "A", 2)
    before = content(tmp_path)

    def fail(path, *, limit):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("trainer.dagger.training.progress_store.read_regular", fail)
    with pytest.raises(ProgressError, match=r"progress\.pt cannot be read: Input/output error"):
        load_progress(tmp_path / "A", INPUTS)
    assert content(tmp_path) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def cut_progress(folder):
    cut(folder / "progress.pt")


def overwrite_progress(folder):
    (folder / "progress.pt").write_bytes(b"\0" * 4096)


def empty_progress(folder):
    (folder / "progress.pt").write_bytes(b"")


def replace_content(folder):
    torch.save({"something": "else"}, folder / "progress.pt")


def remove_progress(folder):
    (folder / "progress.pt").unlink()


def cut_observations(folder):
    cut(round_folder(labels_folder(folder), 1) / "observations_0000.npy")


def remove_labels(folder):
    (round_folder(labels_folder(folder), 0) / "labels_0000.npy").unlink()


def keep(folder):
    pass


def restore_older(folder):
    """Restore progress.pt from a backup, after further rounds."""
    older = (folder / "progress.pt").read_bytes()
    shutil.rmtree(folder)
    save_rounds(folder, 4)
    (folder / "progress.pt").write_bytes(older)


def forget_inputs(folder):
    """Write what an earlier version of Hotlap wrote."""
    path = folder / "progress.pt"
    document = torch.load(path, weights_only=True)
    del document["inputs"]
    torch.save(document, path)


CANNOT_CONTINUE = {
    "cut off": (cut_progress, INPUTS, "unreadable", "progress.pt is damaged"),
    "overwritten": (overwrite_progress, INPUTS, "unreadable", "progress.pt is damaged"),
    "empty": (empty_progress, INPUTS, "unreadable", "progress.pt is damaged"),
    "of another program": (replace_content, INPUTS, "unreadable", "progress.pt is damaged (KeyError)"),
    "removed": (remove_progress, INPUTS, "unreadable", "progress.pt does not exist"),
    "observations cut off": (cut_observations, INPUTS, "unreadable", "labels are missing in"),
    "labels removed": (remove_labels, INPUTS, "unreadable", "labels are missing in"),
    "older than the labels": (
        restore_older,
        INPUTS,
        "unreadable",
        "progress.pt is older than the labels: it has 2",
    ),
    "another expert": (keep, OTHER_EXPERT, "old", "because the expert changed; the earlier"),
    "another config": (keep, OTHER_CONFIG, "old", "because max_steps in the config changed; the earlier"),
    "another environment": (keep, OTHER_SHAPE, "old", "because the environment's observations changed; the earlier"),
    "only a fingerprint": (
        forget_inputs,
        OTHER_EXPERT,
        "old",
        "its settings, config, expert, start state or Hotlap's version changed",
    ),
}


@pytest.mark.parametrize(("change", "inputs", "kind", "reason"), CANNOT_CONTINUE.values(), ids=CANNOT_CONTINUE)
def test_work_that_cannot_be_continued_is_kept_in_another_folder(tmp_path, change, inputs, kind, reason):
    folder = tmp_path / "A"
    save_rounds(folder, 2)
    change(folder)
    before = content(folder)
    loaded, note = load_progress(folder, inputs)
    assert loaded == MilestoneProgress(inputs)
    [kept] = tmp_path.iterdir()
    assert kept.name.startswith(f"A.{kind}-2")
    assert content(kept) == before
    assert note.startswith("starts from scratch, because ")
    assert reason in note
    assert note.endswith(f"the earlier work is kept in {kept.as_posix()}")


def test_folders_that_are_kept_never_replace_each_other(tmp_path):
    for number in range(3):
        save_rounds(tmp_path / "A", number + 1)
        load_progress(tmp_path / "A", OTHER_EXPERT)
    assert sorted(len(list(labels_folder(kept).iterdir())) for kept in tmp_path.iterdir()) == [1, 2, 3]


def test_work_that_cannot_be_moved_stops_the_milestone(tmp_path, monkeypatch):
    save_rounds(tmp_path / "A", 2)
    before = content(tmp_path)

    def fail(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.rename", fail)
    with pytest.raises(ProgressError, match=r"A cannot be renamed to A\.old-\d+_\d+: Permission denied"):
        load_progress(tmp_path / "A", OTHER_EXPERT)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"settings": {**SETTINGS, "batch_size": 8}}, "now --batch-size 8 instead of 64 -> use the earlier flags to"),
        ({"settings": {**SETTINGS, "seed": 1, "patience": 2}}, "now --patience 2 instead of 0, --seed 1 instead of 0"),
        ({"settings": {**SETTINGS, "seed": 1}, "expert": "2"}, "--seed 1 instead of 0"),
        ({"start_from": "abc"}, "now --from -> use the earlier flags"),
    ],
    ids=["one flag", "two flags", "a flag and the expert", "a model to start from"],
)
def test_a_changed_flag_asks_for_fresh_and_changes_nothing(tmp_path, changes, text):
    save_rounds(tmp_path / "A", 2)
    before = content(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_progress(tmp_path / "A", inputs(**changes))
    assert "its 2 rounds so far had other flags: " in str(caught.value)
    assert text in str(caught.value)
    assert "--fresh to train from scratch (its labels are kept)" in str(caught.value)
    assert content(tmp_path) == before


def test_what_does_not_change_the_result_may_change(tmp_path):
    save_rounds(tmp_path, 2)
    same = inputs(
        settings={**SETTINGS, "expert_timeout": 60.0},
        milestone={"id": "A", "max_steps": 60, "description": "the first door", "timeout": 5.0, "max_retries": 1},
    )
    assert load_progress(tmp_path, same)[1] == "continues after round 2"


def test_before_the_first_round_every_change_is_accepted(tmp_path):
    save_rounds(tmp_path / "A", 0)
    changed = inputs(settings={**SETTINGS, "batch_size": 8}, expert="2")
    assert load_progress(tmp_path / "A", changed) == (MilestoneProgress(changed), "")


def test_results_are_kept_together_with_their_models(tmp_path):
    assert keep_results(tmp_path, "A") is None
    save_rounds(tmp_path / "work" / "A", 1)
    (tmp_path / "models" / "A").mkdir(parents=True)
    (tmp_path / "models" / "A" / "best.pth").write_bytes(b"weights")
    before = content(tmp_path / "work" / "A")
    kept = keep_results(tmp_path, "A")
    assert content(kept) == {**before, "models/best.pth": b"weights"}
    assert kept.name.startswith("A.old-2")
    assert not (tmp_path / "models" / "A").exists()
