"""A DAgger pipeline follows no link below its output folder."""

import pytest

from schemas.storage.careful_open import LinkInTheWay
from schemas.storage.guarded import guard
from tests.fakes.corridor import write_project
from tests.platforms import make_link
from trainer.dagger.cli import main
from trainer.dagger.training.dataset import RoundWriter


@pytest.mark.parametrize("name", ["models", "work", "logs", "models/A", "work/A", "dagger_videos/B"])
def test_a_link_below_the_output_folder_is_refused(tmp_path, capsys, name):
    arguments = write_project(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    for kept in ("A/x.pth", "x.pth"):
        (elsewhere / kept).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / kept).write_text("precious")
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    make_link(link, elsewhere)
    assert main([*arguments, "--fresh"]) != 0
    assert "is a link, which Hotlap does not follow" in capsys.readouterr().err
    assert sorted(path.relative_to(elsewhere).as_posix() for path in elsewhere.rglob("*")) == ["A", "A/x.pth", "x.pth"]


def test_the_labels_of_a_linked_round_are_not_removed(tmp_path):
    folder, elsewhere = tmp_path / "out" / "data", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "labels_0000.npy").write_text("precious")
    guard(tmp_path / "out")
    make_link(folder / "round_0000", elsewhere)
    RoundWriter(folder, 0)
    assert not (folder / "round_0000").is_symlink(), "only the link was removed"
    folder.rename(tmp_path / "kept")
    make_link(folder, tmp_path / "kept")
    with pytest.raises(LinkInTheWay):
        RoundWriter(folder, 1)
    assert (elsewhere / "labels_0000.npy").read_text() == "precious"
