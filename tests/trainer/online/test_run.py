"""Whole online runs: they learn, they can be stopped at any time, and a resumed one ends like an uninterrupted one."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.envs.registration import register

from schemas.model import check_probe, read_model
from tests.platforms import PATIENCE, needs_posix
from trainer import load_policy
from trainer.checkpoints.checkpoint import load_document
from trainer.envs.gymnasium_env import check_id
from trainer.envs.racing.vec_env import RacingVecEnv
from trainer.online.cli import main
from trainer.online.config import OnlineSettings, as_toml, read_config

ROOT = Path(__file__).resolve().parents[3]
SMALL = """
[run]
total_steps = {steps}
threads = 1

[env]
id = "{env}"
num_envs = {envs}
n_steps = 32
time_limit = 100

[train]
hidden_sizes = [16, 16]
batch_size = 64
epochs = 2

[evaluation]
every_steps = 1024
episodes = 4

[checkpoints]
every_steps = 1024

[curriculum]
enabled = true
one_v_two_at = 1024
two_v_two_at = 2048
patience_steps = 0
pool_every_steps = 512

[report]
interval_s = 0.1
tensorboard = false

[rocket]
time_limit_s = 6.0
no_touch_s = 3.0
"""


def config(folder, env="Pendulum-v1", envs=8, steps=3072):
    path = folder / "config.toml"
    path.write_text(SMALL.format(env=env, envs=envs, steps=steps), encoding="utf-8")
    return path


def run(folder, *arguments, env="Pendulum-v1", envs=8, steps=3072):
    return main(["--config", str(config(folder, env, envs, steps)), "--logs", str(folder / "logs"), *arguments])


def checkpoints(folder):
    return folder / "logs" / "latest_run" / "checkpoints"


def comparable(value):
    """Return the value with bytes instead of tensors, which `==` does not compare as a whole."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    return {name: comparable(each) for name, each in value.items()} if isinstance(value, dict) else value


def weights(path):
    document = load_document(path.read_bytes())
    moments = document["optimizer_state_dict"]["state"]
    weight_bytes = {name: tensor.numpy().tobytes() for name, tensor in document["policy_state_dict"].items()}
    weight_bytes |= {f"moment {i}": state["exp_avg_sq"].numpy().tobytes() for i, state in moments.items()}
    weight_bytes |= {"seen": document["normalisers"]["observations"]["mean"].numpy().tobytes()}
    online = {k: comparable(v) for k, v in document["online"].items() if k != "seconds"}
    return weight_bytes, document["training_history"], online


def runs(folder):
    return [path for path in (folder / "logs").iterdir() if path.is_dir()]


@pytest.fixture
def logs(tmp_path, capsys):
    torch.set_num_threads(1)
    yield tmp_path
    capsys.readouterr()


@pytest.mark.parametrize(
    ("env", "envs"),
    [("Pendulum-v1", 8), ("racing", 8), pytest.param("rocket", 4, id="rocket through all stages")],
)
def test_a_resumed_run_ends_in_the_same_bits_as_an_uninterrupted_one(logs, env, envs):
    """The interrupted run ends after its second checkpoint: its later files are removed before it is resumed."""
    if env == "rocket":
        pytest.importorskip("RocketSim", reason="needs the extra `rocket`")
    whole, cut = logs / "whole", logs / "cut"
    whole.mkdir()
    cut.mkdir()
    assert run(whole, env=env, envs=envs) == 0
    assert run(cut, env=env, envs=envs) == 0
    newest = sorted(checkpoints(cut).glob("model_step_*.pt"))
    assert len(newest) >= 3
    for path in [*newest[2:], checkpoints(cut) / "final_model.pt"]:
        path.unlink()
    assert run(cut, "--resume", env=env, envs=envs) == 0
    names = {path.name for path in checkpoints(whole).glob("*.pt")}
    assert names == {path.name for path in checkpoints(cut).glob("*.pt")}
    for name in sorted(names):
        assert weights(checkpoints(whole) / name) == weights(checkpoints(cut) / name), name
    if env == "rocket":
        stages = [weights(path)[2]["ground"]["stage"] for path in sorted(checkpoints(whole).glob("model_step_*.pt"))]
        assert stages[-1] == 2
        pools = [sorted(p.name for p in (checkpoints(f) / "pool").iterdir()) for f in (whole, cut)]
        assert pools[0] == pools[1]
        assert len(pools[0]) > 2


def test_another_seed_leads_to_other_weights(logs):
    """The control of the test above."""
    for seed in ("0", "1"):
        (logs / seed).mkdir()
        assert run(logs / seed, "--seed", seed, steps=1024) == 0
    one, other = (weights(checkpoints(logs / seed) / "final_model.pt")[0] for seed in ("0", "1"))
    assert one.keys() == other.keys()
    assert one != other


def start(folder, *arguments, steps=1_000_000):
    argv = [
        sys.executable,
        "-m",
        "trainer",
        "online",
        "--config",
        str(config(folder, steps=steps)),
        "--logs",
        str(folder / "logs"),
        *arguments,
    ]
    child = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60 * PATIENCE
    while time.monotonic() < deadline and len(list(checkpoints(folder).glob("model_step_*.pt"))) < 2:
        assert child.poll() is None, child.stdout.read()
        time.sleep(0.02)
    return child


def test_a_killed_run_continues_from_the_last_checkpoint(tmp_path, capsys):
    child = start(tmp_path)
    child.kill()
    child.communicate()
    newest = max(checkpoints(tmp_path).glob("model_step_*.pt"))
    steps = int(newest.stem.removeprefix("model_step_"))
    assert run(tmp_path, "--resume", steps=steps + 1024) == 0
    assert f"resumed at {steps:,} steps" in capsys.readouterr().out
    assert (checkpoints(tmp_path) / "final_model.json").is_file()


@needs_posix("SIGINT of another process")
def test_ctrl_c_saves_a_checkpoint(tmp_path):
    child = start(tmp_path)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130, out
    newest = max(checkpoints(tmp_path).glob("model_step_*.pt"))
    assert f"checkpoint: {newest.name}" in out
    steps = int(newest.stem.removeprefix("model_step_"))
    ended = f"the run ended: stopped after {steps:,} of 1,000,000 steps; `hotlap online --resume` continues"
    assert out.rstrip().endswith(ended)
    saved = set(re.findall(r"checkpoint: (\S+)", out))
    assert len(saved) == steps // 1024 + bool(steps % 1024), "one more was saved at the end"
    assert not (checkpoints(tmp_path) / "final_model.pt").exists()
    assert list(checkpoints(tmp_path).glob(".*")) == []


def test_the_files_of_a_run(logs, capsys):
    assert run(logs) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "[OK] Pendulum-v1: 8 environments" in out
    folder = checkpoints(logs)
    best = read_model((folder / "best_model.json").read_bytes())
    assert best.contract.observation_size == 3
    check_probe(best)
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.allclose(best.mean(observations), load_policy(folder / "best_model.pt").mean(observations), atol=1e-5)
    assert json.loads((folder / "best_model.normaliser.json").read_text())["observations"]["count"] > 1000
    assert load_document((folder / "final_model.pt").read_bytes())["online"]["steps"] == 3072


def recorded(logs):
    """Return the settings in the config.toml of the last run."""
    return read_config(logs / "latest_run" / "config.toml")


def test_config_toml_records_the_settings_with_the_flags(logs):
    assert run(logs, "--seed", "7", "--device", "cpu", steps=512) == 0
    settings = read_config(logs / "config.toml")
    settings = recorded(logs / "logs")
    assert (settings.run.seed, settings.run.device, settings.run.logs) == (7, "cpu", str(logs / "logs"))
    assert settings.model_copy(update={"run": settings.run}) == settings
    assert main(["--config", str(logs / "logs" / "latest_run" / "config.toml")]) == 0
    assert recorded(logs / "logs") == settings


@pytest.mark.parametrize("name", ["", '"quoted" \\ back', "Spiel \u00fc\u4e2d\U0001f3ce", "tab\there"])
def test_settings_written_as_toml_are_read_as_the_same_settings(tmp_path, name):
    settings = OnlineSettings.model_validate(
        {"run": {"logs": name}, "train": {"target_kl": 0.01, "learning_rate": 1e-7}, "evaluation": {"stop_at": -3.5}}
    )
    path = tmp_path / "config.toml"
    path.write_text(as_toml(settings, "a comment"), encoding="utf-8")
    assert read_config(path) == settings


def test_a_config_is_not_needed_for_an_environment_or_a_resumed_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--env", "Acrobot-v1", "--steps", "2000"]) == 0
    assert "[OK] preset acrobot: made for Acrobot; --preset NAME takes another" in capsys.readouterr().out
    settings = recorded(tmp_path / "logs")
    assert (settings.env.id, settings.run.total_steps, settings.run.preset) == ("Acrobot-v1", 2000, "none")
    assert settings.train == read_config(ROOT / "configs" / "acrobot.toml").train
    assert main(["--resume", "--steps", "6000"]) == 0
    out = capsys.readouterr().out
    assert "[OK] Acrobot-v1" in out
    assert "preset" not in out
    resumed = recorded(tmp_path / "logs")
    assert resumed == settings.model_copy(update={"run": settings.run.model_copy(update={"total_steps": 6000})})


def test_without_config_and_environment_both_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 78
    err = capsys.readouterr().err
    assert "--env CartPole-v1" in err
    assert "cartpole" in err


def test_the_last_run_is_not_moved_if_the_environment_does_not_exist(logs):
    assert run(logs, steps=512) == 0
    before = (logs / "logs" / "latest_run" / "run.json").read_bytes()
    assert run(logs, env="NoSuchGame-v0") == 78
    assert (logs / "logs" / "latest_run" / "run.json").read_bytes() == before


def test_an_environment_of_the_current_folder_is_found_after_all_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in {"", str(tmp_path)}])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\ngymnasium.register('Mine-v0', entry_point='gymnasium.envs.classic_control:PendulumEnv')\n"
    )
    check_id("my_envs:Mine-v0")
    assert sys.path[-1] == str(tmp_path)


def test_a_new_run_moves_the_last_one_to_its_own_folder(logs):
    assert run(logs, steps=512) == 0
    first = json.loads((logs / "logs" / "latest_run" / "run.json").read_text())["started"]
    assert run(logs, steps=512) == 0
    assert (logs / "logs" / first / "checkpoints" / "final_model.json").is_file()
    assert run(logs, steps=512) == 0
    assert len(runs(logs)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nlerning_rate = 1\n", "did you mean train.learning_rate?"),
        ("[env]\nid = 'NoSuchGame-v0'\n", "E_ENV"),
        ("[train]\nepochs = 0\n", "train.epochs is 0, but"),
        ("[curriculum]\none_v_two_at = 9\ntwo_v_two_at = 5\n", "two_v_two_at must be greater than one_v_two_at"),
        ("[run]\ndevice = 'tpu'\n[env]\nid = 'racing'\n", "tpu"),
    ],
)
def test_a_wrong_config_is_one_line(tmp_path, capsys, text, said):
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert main(["--config", str(path), "--logs", str(tmp_path / "logs")]) == 78
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_second_run_in_the_same_folder_is_rejected(tmp_path, capsys):
    child = start(tmp_path)
    for arguments in ((), ("--resume",)):
        assert run(tmp_path, *arguments) == 78
        folder = tmp_path / "logs" / "latest_run"
        message = f"another run, process {child.pid}, uses {folder.as_posix()} -> wait until it ends or stop it"
        assert message in capsys.readouterr().err
    child.kill()
    child.communicate()
    assert run(tmp_path, steps=512) == 0, "the lock of a killed run is free"
    assert len(runs(tmp_path)) == 2


def test_a_failed_start_moves_and_writes_nothing(logs, capsys):
    assert run(logs, steps=512) == 0
    folder = logs / "logs" / "latest_run"

    def content():
        return {path: path.read_bytes() for path in (logs / "logs").rglob("*") if path.is_file()}

    before = content()
    path = logs / "config.toml"
    for change in (('id = "Pendulum-v1"', 'id = "CartPole-v1"\noptions = { speed = 3 }'), ("[16, 16]", "[16, 8]")):
        config(logs, steps=1024)
        path.write_text(path.read_text().replace(*change))
        arguments = ["--resume"] if "8" in change[1] else []
        assert main(["--config", str(path), "--logs", str(logs / "logs"), *arguments]) != 0
        assert content() == before
    assert "hidden sizes" in capsys.readouterr().err
    assert folder.is_dir()


def test_a_named_run_is_kept_beside_others_and_resumed_by_its_name(logs, capsys):
    assert run(logs, "--run-id", "short", steps=512) == 0
    assert run(logs, "--run-id", "short", steps=512) == 78
    assert "there is a run short in" in capsys.readouterr().err
    assert main(["--resume", "short", "--steps", "1024", "--logs", str(logs / "logs")]) == 0
    out = capsys.readouterr().out
    assert "resumed at 512 steps" in out
    assert "total_steps 512 -> 1,024: the schedules of learning rate" in out
    assert out.rstrip().endswith("the run ended: all 1,024 steps are done")
    info = json.loads((logs / "logs" / "short" / "run.json").read_text())
    assert (info["ended"], info["steps"]) == ("all 1,024 steps are done", 1024)
    assert main(["--resume", str(logs / "logs" / "short"), "--steps", "1280"]) == 0, "the path of its folder"
    assert main(["--resume", "--logs", str(logs / "logs")]) == 78
    assert "--resume RUN with one of: short (1,280 steps)" in capsys.readouterr().err
    best = str(logs / "logs" / "short" / "checkpoints" / "best_model.pt")
    assert run(logs, "--run-id", "next", "--initialize-from", best, steps=512) == 0
    assert f"starts from {Path(best).as_posix()}" in capsys.readouterr().out


def test_another_environment_of_the_same_shape_is_not_resumed_silently(logs, capsys):
    register("OtherPendulum-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=200)
    assert run(logs, steps=512) == 0
    assert run(logs, "--resume", env="OtherPendulum-v0", steps=1024) == 78
    err = capsys.readouterr().err
    assert "the run latest_run was trained in Pendulum-v1, the settings name OtherPendulum-v0" in err
    assert "--initialize-from latest_run/checkpoints/best_model.pt" in err
    assert run(logs, "--resume", "--env-options", "g = 9.81", steps=1024) == 0
    assert "[WARN] env.options were {}, and are {'g': 9.81} from here on" in capsys.readouterr().out


def test_a_missing_run_to_resume_is_reported_in_one_line(tmp_path, capsys):
    assert run(tmp_path, "--resume") == 78
    assert "E_NO_RUN" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(logs, capsys):
    assert run(logs, steps=2048) == 0
    *_, before, newest = sorted(checkpoints(logs).glob("model_step_*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert run(logs, "--resume", steps=2048) == 0
    out = capsys.readouterr().out
    assert f"{newest.name} is skipped" in out
    assert f"resumed at {int(before.stem.split('_')[-1]):,} steps" in out
    load_document(newest.read_bytes())  # written again


def test_resuming_with_another_network_is_one_line(logs, capsys):
    assert run(logs, steps=1024) == 0
    path = logs / "config.toml"
    path.write_text(path.read_text().replace("[16, 16]", "[16, 8]"))
    assert main(["--config", str(path), "--logs", str(logs / "logs"), "--resume"]) == 65
    assert "it has hidden sizes [16, 8] instead of [16, 16]" in capsys.readouterr().err


@pytest.mark.parametrize("env", [None, "CartPole-v1", "rocket"])
def test_validate_takes_a_step_in_the_environment_of_the_config(tmp_path, capsys, env):
    if env == "rocket":
        pytest.importorskip("RocketSim", reason="needs the extra `rocket`")
    arguments = ["--config", str(config(tmp_path, env=env))] if env else []
    assert main(["--validate", *arguments]) == 0
    out = capsys.readouterr().out
    observations = {None: 15, "CartPole-v1": 4, "rocket": 180}[env]
    assert re.search(rf"\[OK\]    one step of {env or 'racing'}: \d agents, {observations} observations", out)
    assert out.endswith("3 checks, 0 failed\n")


def test_validate_names_what_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "RocketSim", None)
    assert main(["--validate"]) == 0, "racing does not need it"
    assert "RocketSim not installed" in capsys.readouterr().out
    assert main(["--validate", "--config", str(config(tmp_path, env="rocket"))]) == 1
    out = capsys.readouterr().out
    assert "[ERROR] collision meshes: rocketsim is not installed" in out
    assert "[ERROR] one step of rocket: rocketsim is not installed" in out
    nan = np.full((2, 15), np.nan, np.float32)
    monkeypatch.setattr(RacingVecEnv, "reset", lambda self, seed=None: nan)
    assert main(["--validate"]) == 1
    assert "[ERROR] one step of racing: the environment returned nan" in capsys.readouterr().out


def test_tensorboard_scalars_have_stable_names(logs):
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra `tensorboard`"
    )
    path = config(logs, env="racing", steps=2048)
    path.write_text(path.read_text().replace("tensorboard = false", "tensorboard = true"))
    assert main(["--config", str(path), "--logs", str(logs / "logs")]) == 0
    events = loader.EventAccumulator(str(logs / "logs" / "latest_run" / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    train = ("learning_rate", "entropy_coef", "policy_loss", "value_loss", "approx_kl", "clip_fraction", "grad_norm")
    assert names >= {f"train/{name}" for name in (*train, "explained_variance")}
    assert names >= {"eval/mean_reward", "speed/steps_per_s", "reward/distance_mean", "reward/crash_mean"}
    assert [event.step for event in events.Scalars("eval/mean_reward")] == [1024, 2048]
    assert events.Scalars("train/value_loss")[-1].step == 2048, "the last interval"
    (checkpoints(logs) / "model_step_0000002048.pt").unlink()
    assert main(["--config", str(path), "--logs", str(logs / "logs"), "--resume"]) == 0
    events.Reload()
    steps = [event.step for event in events.Scalars("train/value_loss")]
    assert steps == sorted(set(steps)), "the curve does not run backwards"


def test_a_missing_extra_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "RocketSim", None)
    assert run(tmp_path, env="rocket") == 78
    pip = f"{sys.executable} -m pip install"
    assert f"rocketsim is not installed -> {pip} gymnasium rocketsim [E_EXTRA]" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert run(tmp_path) == 78
    assert f"gymnasium is not installed -> {pip} gymnasium PyYAML [E_EXTRA]" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    path = config(tmp_path, env="racing")
    path.write_text(path.read_text().replace("tensorboard = false", "tensorboard = false\nwandb = true"))
    assert main(["--config", str(path), "--logs", str(tmp_path / "logs")]) == 78
    assert f"{pip} wandb, or leave out report.wandb = true [E_EXTRA]" in capsys.readouterr().err


def test_running_out_of_memory_is_one_line(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("trainer.online.run.Collector.collect", full)
    assert run(tmp_path, env="racing") == 75
    err = capsys.readouterr().err
    assert "out of memory" in err
    assert err.count("\n") == 1


def test_an_episode_is_recorded_as_a_video(logs, capsys):
    pytest.importorskip("av", reason="needs the extra `video`")
    assert run(logs, env="racing", steps=1024) == 0
    target = logs / "episode.mp4"
    assert run(logs, "--video", str(target), env="racing") == 0
    assert b"ftyp" in target.read_bytes()[:16]
    assert "frames" in capsys.readouterr().out


@pytest.mark.slow
def test_cartpole_is_solved(logs):
    """Gymnasium defines 475 as solved; the control is the untrained policy's score."""
    argv = ["--config", str(ROOT / "configs" / "cartpole.toml"), "--logs", str(logs / "logs"), "--steps", "60000"]
    assert main(argv) == 0
    log = (logs / "logs" / "latest_run" / "train.log").read_text()
    scores = [float(line.split(": ")[1].split()[0]) for line in log.splitlines() if "evaluation at" in line]
    assert scores[-1] >= 475
    assert "reward" in log
