"""Images in an online run: stored as bytes, learned by the CNN, resumed to the same bits; small ones are vectors."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import register

from schemas.errors import ModelError
from tests.trainer.online.test_run import checkpoints, comparable
from trainer.checkpoints.checkpoint import load_document
from trainer.checkpoints.policy import load_policy
from trainer.networks.image_network import FORMAT
from trainer.online.cli import main
from trainer.online.config import OnlineSettings
from trainer.online.learners.memory import bytes_needed, memory_note

CONFIG = """
[run]
total_steps = {steps}
threads = 1
[env]
id = "HotlapSide-v0"
num_envs = 4
n_steps = 64
[train]
algorithm = "{algorithm}"
hidden_sizes = [32]
batch_size = 64
learning_rate = 2e-3
entropy_coef = 0.0
gamma = 0.9
[evaluation]
every_steps = 1024
episodes = 4
[checkpoints]
every_steps = 512
[report]
tensorboard = false
"""


class Side(gymnasium.Env):
    """A bright square is left or right; the action that says where earns 1. Channels are first."""

    observation_space = gymnasium.spaces.Box(0, 255, (1, 24, 28), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def observe(self):
        self.side = int(self.np_random.integers(2))
        image = np.zeros((1, 24, 28), np.uint8)
        image[0, 10:14, 4 + 16 * self.side : 8 + 16 * self.side] = 255
        return image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        reward = float(action == self.side)
        return self.observe(), reward, False, self.t == 10, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


register("HotlapSide-v0", Side, disable_env_checker=True)


def run(folder, *arguments, steps=2048, algorithm="ppo"):
    folder.mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(CONFIG.format(steps=steps, algorithm=algorithm))
    return main(["--config", str(path), "--logs", str(folder / "logs"), *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a run of 2,048 steps."""
    folder = tmp_path_factory.mktemp("images") / "whole"
    assert run(folder) == 0
    return folder


def content(path):
    document = load_document(path.read_bytes())
    document["online"].pop("seconds")
    return {key: comparable(value) for key, value in document.items()}


def test_left_and_right_are_learned_from_images_and_the_model_has_dagger_s_form(trained, capsys):
    best = checkpoints(trained) / "best_model.pt"
    document = load_document(best.read_bytes())
    assert (document["format"], document["picture"], document["picture_max"]) == (FORMAT, [24, 28, 1], 255.0)
    assert {"convolutions.0.weight", "hidden.weight", "head.weight"} <= set(document["policy_state_dict"])
    assert document["online"]["last"] == 10.0  # each answer of an episode is right
    assert not best.with_suffix(".json").exists()
    policy = load_policy(best)
    images = np.zeros((2, 24, 28, 1), np.uint8)
    images[0, 10:14, 4:8] = images[1, 10:14, 20:24] = 255
    assert policy.mean(images).argmax(axis=1).tolist() == [0, 1]
    assert policy.value(images) == pytest.approx([10.0, 10.0], abs=5.0)
    with pytest.raises(ModelError, match="needs images of bytes"):
        policy.mean(images / 255.0)


def test_a_resumed_run_on_images_ends_in_the_same_bits(trained, tmp_path):
    cut = tmp_path / "cut"
    assert run(cut, steps=2048) == 0
    names = sorted(path.name for path in checkpoints(cut).glob("model_step_*.pt"))
    for name in (*names[-2:], "best_model.pt", "final_model.pt"):
        (checkpoints(cut) / name).unlink()
    assert run(cut, "--resume") == 0
    for name in (names[-1], "best_model.pt"):
        assert content(checkpoints(cut) / name) == content(checkpoints(trained) / name)


def test_a_new_run_starts_from_a_policy_for_images_and_other_models_are_refused(trained, tmp_path, capsys):
    best = checkpoints(trained) / "best_model.pt"
    assert run(tmp_path / "new", "--from", str(best), steps=256) == 0
    out = capsys.readouterr().out
    assert "starts from" in out
    other = tmp_path / "model.json"
    other.write_text("{}")
    assert run(tmp_path / "other", "--from", str(other)) == 65
    assert "model.json is a policy for vectors, but the environment has images" in capsys.readouterr().err
    document = load_document(best.read_bytes())
    torch.save(document | {"picture": [84, 84, 4]}, tmp_path / "large.pt")
    assert run(tmp_path / "large", "--from", str(tmp_path / "large.pt")) == 65
    assert "large.pt has images 84 x 84 x 4 instead of 24 x 28 x 1" in capsys.readouterr().err


def test_td3_and_a_mirror_are_refused_for_images(tmp_path, capsys):
    assert run(tmp_path / "td3", algorithm="td3") == 78
    assert 'which only ppo learns from -> set train.algorithm = "ppo"' in capsys.readouterr().err
    assert not (tmp_path / "td3" / "logs" / "latest_run").exists()


def test_the_memory_of_a_run_is_computed_from_what_it_holds(monkeypatch):
    monkeypatch.setattr(
        "trainer.online.learners.memory.psutil.virtual_memory", lambda: type("M", (), {"available": 10**9})
    )
    settings = OnlineSettings()
    shape = {"n_agents": 64, "observation_size": 1000}
    assert memory_note(settings, "ppo", **shape) == ""
    long = settings.model_copy(update={"env": settings.env.model_copy(update={"n_steps": 2048})})
    note = memory_note(long, "ppo", **shape)
    assert note == (
        "a batch of 64 x 2,048 steps needs about 3.8 GB of memory, and 1.0 GB is free: lower env.n_steps (2,048) or "
        "env.num_envs"
    )
    assert "lower train.replay_experiences (1,000,000)" in memory_note(settings, "td3", **shape)
    assert bytes_needed(settings, "td3", **shape, image=None) > 1_000_000 * 4_000
