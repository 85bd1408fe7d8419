"""A folder inside a project is refused and nothing is made there; the message names the project's folder."""

from __future__ import annotations

import pytest

from daemon.cli import main
from daemon.runtime.project_folder import enclosing_project, note_without_engine_file
from schemas.storage.layout import ProjectPaths


@pytest.mark.parametrize("inner", ["Saved", "Saved/Training", "Saved/Training/Exports", "Saved/Training/Models"])
@pytest.mark.parametrize("words", [["--once"], [], ["doctor"], ["status"]])
def test_a_folder_inside_the_project_is_refused(tmp_path, capsys, inner, words):
    game = tmp_path / "My Game"
    ProjectPaths(game).exports.mkdir(parents=True)
    ProjectPaths(game).models.mkdir()
    before = set(game.rglob("*"))
    assert main([*words, "--project", str(game / inner)]) == 2
    error = capsys.readouterr().err
    inside, project = (game / inner).as_posix(), game.as_posix()
    assert f"{inside} is a folder inside the project {project} -> name the project's folder: `--project " in error
    assert set(game.rglob("*")) == before


def test_a_project_file_is_refused_and_its_folder_is_offered(tmp_path, capsys):
    (tmp_path / "Game.uproject").touch()
    assert main(["--once", "--project", str(tmp_path / "Game.uproject")]) == 2
    assert f"is not a folder -> name its folder: `--project {tmp_path.as_posix()}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "project"),
    [
        ("game", None),
        ("game/Training", None),
        ("game/Exports", None),
        ("Saved/game", None),
        ("game/saved/training/exports", "game"),
    ],
)
def test_only_the_folders_of_the_layout_belong_to_a_project(tmp_path, folder, project):
    (tmp_path / folder).mkdir(parents=True)
    assert enclosing_project(tmp_path / folder) == (None if project is None else tmp_path / project)


def test_a_game_that_is_named_saved_is_a_project(tmp_path):
    (tmp_path / "Saved").mkdir()
    assert enclosing_project(tmp_path / "Saved") is None
    ProjectPaths(tmp_path / "Saved").exports.mkdir(parents=True)
    assert enclosing_project(tmp_path / "Saved") is None


def test_a_folder_without_an_engines_file_is_noted_and_one_that_is_near_is_offered(tmp_path):
    assert "correct if your engine has none" in note_without_engine_file(tmp_path)
    (tmp_path / "MyGame").mkdir()
    (tmp_path / "MyGame" / "MyGame.uproject").touch()
    assert note_without_engine_file(tmp_path).endswith(f"did you mean `--project {(tmp_path / 'MyGame').as_posix()}`?")
    assert note_without_engine_file(tmp_path / "MyGame") is None
