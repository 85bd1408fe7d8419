"""Presets: which one an environment gets, what it sets, and what wins over it."""

from __future__ import annotations

import tomllib
from typing import get_args

import gymnasium
import numpy as np
import pytest

from schemas.errors import ConfigError
from trainer.common.shipped_files import shipped_configs
from trainer.online.cli import main, parser, read_settings
from trainer.online.config import PresetName, as_toml, read_config
from trainer.online.learner import OnlineLearner
from trainer.online.presets.choice import choose_preset, settings_with_preset
from trainer.online.presets.table import PRESETS, preset_for_entry_point


class Plain(gymnasium.Env):
    """An environment of nobody: two numbers, two choices."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, True, {}


class Bytes(Plain):
    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Steered(Plain):
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


gymnasium.register("Plain-v0", Plain)
gymnasium.register("Bytes-v0", Bytes)
gymnasium.register("Steered-v0", Steered)
gymnasium.register("MyPendulum-v3", "gymnasium.envs.classic_control:PendulumEnv")


def settings_of(*arguments):
    return read_settings(parser("online").parse_args(arguments))


def test_each_name_has_a_preset_and_a_config():
    names = {preset.name for preset in PRESETS}
    assert names == set(get_args(PresetName)) - {"auto", "none"} == set(shipped_configs(".toml"))


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize(
    ("env", "preset"),
    [
        ("rocket", "rocket"),
        ("racing", "racing"),
        ("CartPole-v0", "cartpole"),
        ("CartPole-v1", "cartpole"),
        ("Acrobot-v1", "acrobot"),
        ("MountainCar-v0", "mountaincar"),
        ("MountainCarContinuous-v0", "mountaincar_continuous"),
        ("Pendulum-v1", "pendulum"),
        ("MyPendulum-v3", "pendulum"),
        ("Plain-v0", "discrete"),
        ("FrozenLake-v1", "discrete"),
        ("Steered-v0", "continuous"),
        ("Bytes-v0", "pixels"),
    ],
)
def test_an_environment_gets_the_preset_of_its_kind(env, preset):
    settings, note = settings_of("--env", env)
    assert note.startswith(f"preset {preset}: ")
    assert note.count("\n") == 0
    expected = read_config(shipped_configs(".toml")[preset])
    assert settings.train == expected.train
    assert (settings.env.num_envs, settings.env.n_steps) == (expected.env.num_envs, expected.env.n_steps)
    assert settings.env.id == env
    assert settings.evaluation.stop_at is None, "when a run ends is for its config"


@pytest.mark.parametrize(
    ("entry_point", "preset"),
    [
        ("gymnasium.envs.box2d.lunar_lander:LunarLander", "lunarlander"),
        ("gymnasium.envs.box2d.bipedal_walker:BipedalWalker", "bipedalwalker"),
        ("gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv", "mujoco"),
        ("gymnasium_robotics.envs.fetch.reach:MujocoFetchReachEnv", "mujoco"),
        ("ale_py.env:AtariEnv", "pixels"),
        ("my_game.envs:LunarLander", None),
        ("gymnasium_robotics_of_mine:Env", None),
        (Plain, None),
    ],
)
def test_presets_are_found_by_the_class_or_the_package_that_makes_an_environment(entry_point, preset):
    found = preset_for_entry_point(entry_point)
    assert (found and found.name) == preset


def test_a_file_wins_over_the_preset_and_flags_win_over_both(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[env]\nid = "Acrobot-v1"\nnum_envs = 3\n[train]\ngamma = 0.9\nepochs = 7\n', encoding="utf-8")
    settings, note = settings_with_preset(path, {"train.epochs": 2, "run.total_steps": 77})
    preset = read_config(shipped_configs(".toml")["acrobot"])
    assert note.startswith("preset acrobot: made for Acrobot")
    assert (settings.env.num_envs, settings.train.gamma, settings.train.epochs) == (3, 0.9, 2)
    assert (settings.run.total_steps, settings.env.n_steps) == (77, preset.env.n_steps)
    assert settings.train.gae_lambda == preset.train.gae_lambda


def test_a_config_of_hotlap_keeps_its_values():
    settings, _ = settings_of("--config", "cartpole")
    assert settings.evaluation.stop_at == 475
    assert settings.train == read_config(shipped_configs(".toml")["cartpole"]).train


def test_the_end_of_a_schedule_is_not_above_a_start_that_the_user_sets():
    settings, _ = settings_with_preset(None, {"env.id": "Pendulum-v1", "train.learning_rate": 1e-6})
    assert settings.train.learning_rate_end == 1e-6
    settings, _ = settings_with_preset(None, {"env.id": "Pendulum-v1", "train.learning_rate": 1e-2})
    assert settings.train.learning_rate_end == read_config(shipped_configs(".toml")["pendulum"]).train.learning_rate_end


def test_a_preset_can_be_named_or_left_out():
    settings, note = settings_of("--env", "Pendulum-v1", "--preset", "continuous")
    assert note.startswith("preset continuous: ")
    assert settings.train.gamma == 0.99
    settings, note = settings_of("--env", "Pendulum-v1", "--preset", "none")
    assert note == ""
    assert settings.train.gamma == 0.995
    with pytest.raises(ConfigError) as caught:
        settings_of("--env", "Pendulum-v1", "--preset", "acrobat")
    assert caught.value.line().endswith('-> did you mean "acrobot"? [E_CONFIG]')


def test_the_config_of_a_run_has_all_values_and_needs_no_preset(tmp_path):
    settings, _ = settings_of("--env", "MountainCarContinuous-v0", "--env-options", "goal_velocity = 0.01")
    path = tmp_path / "config.toml"
    path.write_text(as_toml(settings, "a comment"), encoding="utf-8")
    assert settings_with_preset(path, {}) == (settings, "")
    assert settings.env.options == {"goal_velocity": 0.01}
    assert settings.train.initial_std == 2.0


def test_a_resumed_run_keeps_its_settings_and_takes_those_that_are_named(tmp_path, capsys):
    logs = tmp_path / "logs"
    start = ["--env", "Plain-v0", "--steps", "64", "--logs", str(logs)]
    path = tmp_path / "small.toml"
    path.write_text("[env]\nn_steps = 8\nnum_envs = 2\n[train]\ngamma = 0.5\n", encoding="utf-8")
    assert main([*start, "--config", str(path)]) == 0
    path.write_text('[run]\npreset = "discrete"\n[train]\nepochs = 3\n', encoding="utf-8")
    assert main(["--resume", "--steps", "128", "--logs", str(logs), "--config", str(path)]) == 0
    recorded = tomllib.loads((logs / "latest_run" / "config.toml").read_text(encoding="utf-8"))
    assert (recorded["env"]["id"], recorded["train"]["gamma"], recorded["train"]["epochs"]) == ("Plain-v0", 0.5, 3)
    capsys.readouterr()
    assert main(["--resume", "--logs", str(logs), "--preset", "discrete"]) == 78
    assert "--preset is for a new run" in capsys.readouterr().err


def test_the_initial_deviation_is_that_of_the_setting():
    settings, _ = settings_with_preset(None, {"env.id": "Steered-v0", "train.initial_std": 1.5})
    _, reason = choose_preset(settings.model_copy(update={"run": settings.run.model_copy(update={"preset": "auto"})}))
    assert reason == "the actions of Steered-v0 are continuous, and no preset is made for it"
    from trainer.envs.gymnasium_env import GymnasiumVecEnv

    env = GymnasiumVecEnv("Steered-v0", 1)
    assert OnlineLearner(env.contract, settings).network.action_log_std.exp().tolist() == pytest.approx([1.5, 1.5])
    env.close()


def test_presets_are_listed(capsys):
    assert main(["--list-presets"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [preset.name for preset in PRESETS]
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "mountaincar_continuous" in capsys.readouterr().out


def test_options_that_are_not_toml_are_one_line(capsys):
    with pytest.raises(SystemExit):
        main(["--env", "Plain-v0", "--env-options", "continuous:True"])
    assert 'write it as in TOML: "continuous = true, gravity = -8.0"' in capsys.readouterr().err
