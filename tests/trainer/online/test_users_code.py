"""Whose mistake it is: an exception of the user's environment is one line with their file and line, also from a worker.

The modules are beside the config, which is where they are found.
"""

from __future__ import annotations

import re
import sys

import pytest

from trainer.online.cli import main

CONFIG = """
[run]
total_steps = {steps}
preset = "none"
[env]
id = "{name}:UsersOwn-v0"
num_envs = 2
n_steps = 32
workers = {workers}
[train]
hidden_sizes = [8]
[evaluation]
every_steps = 0
[report]
tensorboard = false
"""
MODULE = """
import os
import gymnasium
import numpy as np

class Game(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self):
        {init}
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {{}}
    def step(self, action):
        self.t += 1
        if self.t == 5:
            {step}
        return np.zeros(2, np.float32), 1.0, False, self.t == 20, {{}}
    def close(self):
        {close}

gymnasium.register("UsersOwn-v0", Game, disable_env_checker=True)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that trains in the environment of a module with these lines."""
    import gymnasium

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"users_{abs(hash(tmp_path)) % 10**9}"
    folder = tmp_path / "beside"
    folder.mkdir()

    def start(*arguments, text=None, workers=False, init="pass", step="pass", close="pass", steps=128):
        module = MODULE.format(init=init, step=step, close=close) if text is None else text
        (folder / f"{name}.py").write_text(module)
        (folder / "c.toml").write_text(CONFIG.format(name=name, workers=str(workers).lower(), steps=steps))
        return main(["--config", str(folder / "c.toml"), "--logs", "logs", *arguments])

    yield start
    gymnasium.registry.pop("UsersOwn-v0", None)
    sys.modules.pop(name, None)


@pytest.mark.parametrize("workers", [False, True])
def test_an_exception_of_step_is_one_line_with_the_traceback_in_the_run_s_log(start, tmp_path, capfd, workers):
    assert start(workers=workers, step="return {'hp': 3}['badges']") == 65
    err = capfd.readouterr().err
    line = (
        r"error: the environment's step raised KeyError: 'badges' \(users_\d+\.py, line 18\) -> correct users_\d+\.py; "
    )
    assert re.fullmatch(line + r"the traceback is in logs/latest_run/train\.log \[E_ENV\]\n", err)
    log = (tmp_path / "logs" / "latest_run" / "train.log").read_text()
    assert "Traceback" in log
    assert "line 18, in step" in log
    assert "KeyError" in (tmp_path / "logs" / "latest_run" / "run.json").read_text()


def test_a_worker_that_dies_is_named(start, capfd):
    assert start(workers=True, step="os._exit(9)") == 65
    err = capfd.readouterr().err
    assert "a process of users_" in err
    assert ":UsersOwn-v0 ended: exit code 9 -> env.workers = false runs it in this process" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"init": "{}['rom']"},
            r"cannot be created: KeyError: 'rom' \(users_\d+\.py, line 10\) -> correct users_",
        ),
        (
            {"text": "def f(:\n"},
            r"imported: SyntaxError: invalid syntax \(users_\d+\.py, line 1\) -> correct users_",
        ),
        ({"text": "\nsettings = {}\nsettings['a']\n"}, r"KeyError: 'a' \(users_\d+\.py, line 3\) -> correct users_"),
    ],
    ids=["constructor", "syntax", "import"],
)
def test_before_a_run_starts_the_traceback_is_in_a_log_of_its_own(start, tmp_path, capfd, keywords, message):
    assert start(**keywords) == 78
    err = capfd.readouterr().err
    assert re.search(message, err)
    assert err.endswith("the traceback is in logs/error.log [E_ENV]\n")
    assert err.count("\n") == 1
    assert "Error" in (tmp_path / "logs" / "error.log").read_text()


def test_an_exception_of_close_does_not_hide_a_finished_run_which_a_resumed_one_finds_again(start, tmp_path, caplog):
    assert start(close="{}['window']") == 0
    assert "the environment's close raised KeyError: 'window'" in caplog.text
    sys.path.remove(str(tmp_path / "beside"))
    assert main(["--resume", "--logs", "logs", "--steps", "192"]) == 0


def test_a_file_names_the_environment_too(start, tmp_path, capsys):
    assert start() == 0
    (module,) = (tmp_path / "beside").glob("*.py")
    arguments = ["--preset", "none", "--steps", "128", "--logs", "logs"]
    assert main(["--env", f"beside/{module.name}:UsersOwn-v0", *arguments]) == 0
