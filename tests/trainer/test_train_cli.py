"""`hotlap train` reads the rollouts of a folder under daemon.toml, and most of them define a new network."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from schemas.model import read_model
from tests.helpers import make_rollout, v1_bytes, v1_document, write_rollout
from trainer.checkpoint_cli import find_best
from trainer.common.threads import limit_numpy_to_one_thread, set_thread_count
from trainer.train_cli import main


def write_all(folder, change=lambda experience, number: None, *, count=2):
    folder.mkdir()
    for seed in range(count):
        document = v1_document(make_rollout(seed=seed))
        for number, experience in enumerate(document["experiences"]):
            change(experience, number)
        write_rollout(folder, seed, orjson.dumps(document))
    return folder


def train(folder, models, *, toml="", epochs=2):
    config = folder / "settings.toml"
    config.write_text(toml, encoding="utf-8")
    config.chmod(0o644)
    return main([str(folder), str(models), str(epochs), "cpu", "--config", str(config)])


def model_in(folder):
    [path] = folder.glob("model_epoch_*.json")
    return read_model(path.read_bytes())


def sort_keys(experience, number):
    experience["action"] = {name: experience["action"][name] for name in sorted(experience["action"])}


def test_sorted_keys_give_the_same_model_as_keys_in_order(tmp_path):
    limit_numpy_to_one_thread()  # otherwise only the first training of a process computes in several threads
    set_thread_count(1)
    assert train(write_all(tmp_path / "in_order"), tmp_path / "one") == 0
    assert train(write_all(tmp_path / "sorted", sort_keys), tmp_path / "two") == 0
    one, two = model_in(tmp_path / "one"), model_in(tmp_path / "two")
    assert one.contract == two.contract
    for left, right in zip(one.policy.layers(), two.policy.layers(), strict=True):
        np.testing.assert_array_equal(left.weights, right.weights)
        np.testing.assert_array_equal(left.biases, right.biases)


def test_a_stray_rollout_with_the_first_name_does_not_decide(tmp_path, capsys):
    exports = write_all(tmp_path / "exports")
    (exports / "rollout_00_x.json").write_bytes(v1_bytes(seed=9, observation_size=14))
    assert train(exports, tmp_path / "models") == 0
    assert model_in(tmp_path / "models").contract.observation_size == 15
    assert "14 observations instead of 15" in capsys.readouterr().err


def choose(experience, number):
    experience["action"] = {"move": ("left", "stay", "right")[number % 3]}


CHOICES = '[agent]\nchoices = ["left", "stay", "right"]\n'


def test_choices_by_name_become_a_discrete_policy_that_find_best_can_measure(tmp_path, monkeypatch, capsys):
    exports, models = write_all(tmp_path / "exports", choose), tmp_path / "models"
    assert train(exports, models) == 65
    assert "set agent.choices" in capsys.readouterr().err
    assert train(exports, models, toml=CHOICES) == 0
    assert model_in(models).contract.action_space.output_size == 3
    (tmp_path / "daemon.toml").write_text(CHOICES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_best(["--model-dir", str(models), "--export-dir", str(exports), "--evaluate"]) == 0
    assert "1. model_epoch_" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[agent]\nobservation_size = 14\n", "agent.observation_size is 14, but the model has 15"),
        ('[agent]\nactions = ["brake", "throttle", "steer"]\n', "but the model has the other order steer"),
    ],
)
def test_settings_that_contradict_the_model_to_continue_from_are_refused(tmp_path, capsys, toml, words):
    exports, models = write_all(tmp_path / "exports"), tmp_path / "models"
    assert train(exports, models, epochs=1) == 0
    capsys.readouterr()
    assert train(exports, models, toml=toml, epochs=1) != 0
    err = capsys.readouterr().err
    assert words in err
    assert "--fresh" in err


def test_bounds_that_are_set_later_are_those_of_the_next_model(tmp_path):
    exports, models = write_all(tmp_path / "exports"), tmp_path / "models"
    assert train(exports, models, epochs=1) == 0
    assert train(exports, models, epochs=1, toml="[agent]\naction_high = [1.0, 5.0, 1.0]\n") == 0
    assert model_in(models).contract.action_space.high == (1.0, 5.0, 1.0)


def test_the_mirror_of_the_settings_is_learned_from(tmp_path, capsys):
    exports = write_all(tmp_path / "exports")
    mirror = "[agent.mirror]\nobservation_pairs = [[5, 6]]\naction_signs = ['steer']\n"
    assert train(exports, tmp_path / "plain") == 0
    assert train(exports, tmp_path / "mirrored", toml=mirror) == 0
    plain, mirrored = (model_in(tmp_path / name).policy.layers()[0].weights for name in ("plain", "mirrored"))
    assert not np.array_equal(plain, mirrored)
    capsys.readouterr()
    assert train(exports, tmp_path / "wrong", toml="[agent.mirror]\nobservation_signs = [15]\n") == 78
    line = capsys.readouterr().err
    assert line.startswith(
        "error: agent.mirror.observation_signs names observation 15, but they are 0 to 14 -> correct"
    )
    assert line.rstrip().endswith("[E_CONFIG]")
