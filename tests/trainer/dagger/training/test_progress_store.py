"""Saved progress is continued, or kept in another folder. Labels are never removed."""

import os
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from tests.platforms import needs_posix
from trainer.dagger.training.dataset import RoundWriter, round_folder
from trainer.dagger.training.episodes import EpisodeStatistics
from trainer.dagger.training.progress_store import (
    CompletedRound,
    ExpertEvaluation,
    MilestoneProgress,
    ProgressError,
    labels_folder,
    load_progress,
    save_progress,
)


def save_rounds(folder, count):
    """Save progress with two labels in each round; the second round is the best."""
    progress = MilestoneProgress(
        "fingerprint", expert=ExpertEvaluation(EpisodeStatistics(1.0, 20.0, 0.0), ((True, 20),), 40)
    )
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
    loaded, note = load_progress(tmp_path, "fingerprint")
    assert note == "continues after round 3"
    assert (loaded.expert, loaded.rounds, loaded.best_round, loaded.final) == (saved.expert, saved.rounds, 1, None)
    assert torch.equal(loaded.best["network"]["w"], torch.ones(2))
    assert torch.equal(loaded.learner["network"]["w"], torch.full((2,), 2.0))


def test_without_saved_progress_it_is_new(tmp_path):
    assert load_progress(tmp_path / "none", "fingerprint") == (MilestoneProgress("fingerprint"), "")


def test_round_that_was_interrupted_does_not_count(tmp_path):
    save_rounds(tmp_path, 2)
    interrupted = round_folder(labels_folder(tmp_path), 2)
    interrupted.mkdir()
    (interrupted / "observations_0000.npy").write_bytes(b"half")
    loaded, _ = load_progress(tmp_path, "fingerprint")
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
        load_progress(folder, "fingerprint")
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
        load_progress(tmp_path / "A", "fingerprint")
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


CANNOT_CONTINUE = {
    "cut off": (cut_progress, "fingerprint", "unreadable", "progress.pt is damaged"),
    "overwritten": (overwrite_progress, "fingerprint", "unreadable", "progress.pt is damaged"),
    "empty": (empty_progress, "fingerprint", "unreadable", "progress.pt is damaged"),
    "of another program": (replace_content, "fingerprint", "unreadable", "progress.pt is damaged (KeyError)"),
    "removed": (remove_progress, "fingerprint", "unreadable", "progress.pt does not exist"),
    "observations cut off": (cut_observations, "fingerprint", "unreadable", "labels are missing in"),
    "labels removed": (remove_labels, "fingerprint", "unreadable", "labels are missing in"),
    "another setting": (keep, "other", "old", "its settings, expert or start state changed"),
}


@pytest.mark.parametrize(("change", "fingerprint", "kind", "reason"), CANNOT_CONTINUE.values(), ids=CANNOT_CONTINUE)
def test_work_that_cannot_be_continued_is_kept_in_another_folder(tmp_path, change, fingerprint, kind, reason):
    folder = tmp_path / "A"
    save_rounds(folder, 2)
    change(folder)
    before = content(folder)
    loaded, note = load_progress(folder, fingerprint)
    assert loaded == MilestoneProgress(fingerprint)
    [kept] = tmp_path.iterdir()
    assert kept.name.startswith(f"A.{kind}-2")
    assert content(kept) == before
    assert note.startswith("starts from scratch, because ")
    assert reason in note
    assert note.endswith(f"the earlier work is kept in {kept}")


def test_folders_that_are_kept_never_replace_each_other(tmp_path):
    for number in range(3):
        save_rounds(tmp_path / "A", number + 1)
        load_progress(tmp_path / "A", "other")
    assert sorted(len(list(labels_folder(kept).iterdir())) for kept in tmp_path.iterdir()) == [1, 2, 3]


def test_work_that_cannot_be_moved_stops_the_milestone(tmp_path, monkeypatch):
    save_rounds(tmp_path / "A", 2)
    before = content(tmp_path)

    def fail(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.rename", fail)
    with pytest.raises(ProgressError, match=r"A cannot be renamed to A\.old-\d+_\d+: Permission denied"):
        load_progress(tmp_path / "A", "other")
    assert content(tmp_path) == before
