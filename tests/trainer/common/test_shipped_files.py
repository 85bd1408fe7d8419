"""Configs that come with Hotlap are found by name; a file of the user's comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from trainer.common import shipped_files
from trainer.common.shipped_files import find_config, shipped_configs, shipped_folder
from trainer.dagger.milestones import read_config as read_milestones
from trainer.online.config import read_config

ROOT = Path(__file__).parents[3]


def test_a_name_finds_the_shipped_config():
    assert find_config(Path("cartpole"), ".toml", flag="--config") == (ROOT / "configs" / "cartpole.toml", True)
    found = find_config(Path("racing"), ".json", flag="--milestone-config", prefix="dagger_")
    assert found == (ROOT / "configs" / "dagger_racing.json", True)
    assert find_config(Path("dagger_racing.json"), ".json", flag="", prefix="dagger_") == found


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cartpole").mkdir()
    assert find_config(Path("cartpole"), ".toml", flag="--config")[1]
    Path("cartpole.toml").touch()
    assert find_config(Path("cartpole.toml"), ".toml", flag="--config") == (Path("cartpole.toml"), False)


@pytest.mark.parametrize("name", ["cartpol", "configs/cartpole.toml", "cartpole.json"])
def test_a_name_that_is_nearly_right_is_suggested(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="did you mean --config cartpole"):
        find_config(Path(name), ".toml", flag="--config")


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"one of: acrobot, .*cartpole, .*rocket"):
        find_config(Path("quake"), ".toml", flag="--config")


def test_an_installed_package_has_its_own_copy(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(shipped_files, "_PACKAGE", tmp_path)
    assert shipped_folder("configs") == tmp_path / "configs"
    assert shipped_folder("examples") == ROOT / "examples"


@pytest.mark.parametrize("path", shipped_configs(".toml").values(), ids=lambda path: path.stem)
def test_every_shipped_config_can_be_read(path):
    assert read_config(path).env.id


@pytest.mark.parametrize("path", shipped_configs(".json", prefix="dagger_").values(), ids=lambda path: path.stem)
def test_every_shipped_milestone_config_has_its_experts(path):
    config = read_milestones(path)
    folder = shipped_folder("examples").parent / config.policy_dir
    assert {f"{name}.py" for name in config.ids()} <= {expert.name for expert in folder.iterdir()}
