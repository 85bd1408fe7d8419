"""A failure of Weights & Biases is reported once, and the training continues without it."""

import sys
import types

import pytest

from schemas.errors import ConfigError
from trainer.common.reporting.wandb_run import WandbRun


class FakeRun:
    def __init__(self, failing=()):
        self.logged, self.is_finished, self.failing = [], False, failing

    def log(self, values, step=None):
        if "log" in self.failing:
            raise RuntimeError("connection lost")
        self.logged.append((step, values))

    def finish(self):
        if "finish" in self.failing:
            raise RuntimeError("no answer")
        self.is_finished = True


def start_with(monkeypatch, folder, init):
    module = types.ModuleType("wandb")
    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    run = WandbRun(project="project", entity=None, folder=folder, needed_by="--track")
    run.start({"seed": 3})
    return run


def test_numbers_are_logged_with_their_step(tmp_path, monkeypatch):
    fake, options = FakeRun(), []

    def init(**given):
        options.append(given)
        return fake

    run = start_with(monkeypatch, tmp_path / "out", init)
    run.log({"loss": 0.5}, step=7)
    run.close()
    run.close()
    run.log({"loss": 0.4})
    assert options == [{"project": "project", "entity": None, "dir": str(tmp_path / "out"), "config": {"seed": 3}}]
    assert fake.logged == [(7, {"loss": 0.5})]
    assert fake.is_finished
    assert (tmp_path / "out").is_dir()


def test_without_a_network_it_logs_offline(tmp_path, monkeypatch, capsys):
    fake, modes = FakeRun(), []

    def init(mode=None, **_):
        modes.append(mode)
        if mode != "offline":
            raise ConnectionError("no network")
        return fake

    run = start_with(monkeypatch, tmp_path, init)
    run.log({"loss": 0.5})
    assert modes == [None, "offline"]
    assert fake.logged == [(None, {"loss": 0.5})]
    assert capsys.readouterr().err == "note: wandb: no network; logging offline instead\n"


def test_without_any_run_the_training_continues(tmp_path, monkeypatch, capsys):
    def init(**_):
        raise ConnectionError("no network")

    run = start_with(monkeypatch, tmp_path, init)
    run.log({"loss": 0.5})
    run.close()
    assert capsys.readouterr().err.endswith("note: wandb: no network; nothing is logged to it\n")


def test_the_first_failure_ends_the_logging(tmp_path, monkeypatch, capsys):
    run = start_with(monkeypatch, tmp_path, lambda **_: FakeRun(failing=("log",)))
    run.log({"loss": 0.5})
    run.log({"loss": 0.4})
    run.close()
    assert capsys.readouterr().err == "note: wandb: connection lost; nothing more is logged to it\n"


def test_a_run_that_cannot_be_finished_is_reported(tmp_path, monkeypatch, capsys):
    start_with(monkeypatch, tmp_path, lambda **_: FakeRun(failing=("finish",))).close()
    assert capsys.readouterr().err == "note: wandb: no answer; the end of its run may be missing\n"


def test_without_the_package_one_line_names_the_command_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ConfigError, match=r"--track needs wandb, which is not installed -> .*pip install.* wandb, or leave out --track"
    ):
        WandbRun(project="project", entity=None, folder=tmp_path, needed_by="--track")
