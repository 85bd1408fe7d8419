"""What a killed run goes on from: all of it, or nothing and a word why."""

import numpy as np
import torch

from trainer.dagger.training.dataset import round_folder, write_round
from trainer.dagger.training.episodes import EpisodeStatistics
from trainer.dagger.training.progress_store import (
    CompletedRound,
    ExpertRecord,
    MilestoneProgress,
    data_folder,
    load_progress,
    save_progress,
)


def rounds_on_disk(folder, count):
    """Two labels a round."""
    done = []
    for number in range(count):
        write_round(data_folder(folder), number, [(np.zeros((2, 3), np.float32), np.zeros(2, np.int64))])
        score = EpisodeStatistics(0.5 + 0.25 * (number == 1), 30.0, 1.0)
        done.append(CompletedRound(1.0, 2 * (number + 1), 0.1, score, 0.5, 3.0, 1.0))
    return done


def work_with(folder, count):
    work = MilestoneProgress("print", expert=ExpertRecord(EpisodeStatistics(1.0, 20.0, 0.0), ((True, 20),), 40))
    for number, done in enumerate(rounds_on_disk(folder, count)):
        work = work.with_round(done, {"network": {"w": torch.full((2,), float(number))}})
    save_progress(folder, work)
    return work


def test_what_was_saved_comes_back(tmp_path):
    saved = work_with(tmp_path, 3)
    loaded, told = load_progress(tmp_path, "print")
    assert told == "going on after round 3"
    assert (loaded.expert, loaded.rounds, loaded.best_round, loaded.final) == (saved.expert, saved.rounds, 1, None)
    assert torch.equal(loaded.best["network"]["w"], torch.ones(2))
    assert torch.equal(loaded.learner["network"]["w"], torch.full((2,), 2.0))


def test_other_settings_begin_anew(tmp_path):
    work_with(tmp_path, 2)
    loaded, told = load_progress(tmp_path, "other")
    assert loaded == MilestoneProgress("other")
    assert "are others than before" in told
    assert not data_folder(tmp_path).exists()


def test_torn_progress_or_data_begins_anew(tmp_path):
    def cut(path):
        path.write_bytes(path.read_bytes()[:-7])

    def progress(folder):
        cut(folder / "progress.pt")

    def data(folder):
        cut(round_folder(data_folder(folder), 1) / "observations_0000.npy")

    def gone(folder):
        (round_folder(data_folder(folder), 0) / "labels_0000.npy").unlink()

    for k, (spoil, says) in enumerate(((progress, "cannot be read"), (data, "not whole"), (gone, "not whole"))):
        folder = tmp_path / str(k)
        work_with(folder, 2)
        spoil(folder)
        loaded, told = load_progress(folder, "print")
        assert loaded == MilestoneProgress("print")
        assert says in told


def test_a_round_that_was_being_written_is_no_part_of_it(tmp_path):
    work_with(tmp_path, 2)
    place = round_folder(data_folder(tmp_path), 2)
    place.mkdir()
    (place / "observations_0000.npy").write_bytes(b"half")
    loaded, _ = load_progress(tmp_path, "print")
    assert len(loaded.rounds) == 2


def test_nothing_there_is_new_work(tmp_path):
    assert load_progress(tmp_path / "none", "print") == (MilestoneProgress("print"), "")
