"""A device that does not exist is refused when the settings are loaded, and not in the first cycle."""

from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from schemas.settings.loading import load_settings

ALLOWED = "must be auto, cpu, cuda, or one of several GPUs, such as cuda:1"


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_of_the_trainer(tmp_path, name):
    assert load_settings(tmp_path, environment={}, flags={"trainer.device": name}).trainer.device == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gpu", "did you mean cuda?"),
        ("GPU:1", "did you mean cuda:1?"),
        ("CUDA", "did you mean cuda?"),
        ("cuda1", "did you mean cuda:1?"),
        ("mps", "use auto, cpu or cuda"),
        ("", "use auto, cpu or cuda"),
        ("cpu\n", "use auto, cpu or cuda"),
    ],
)
def test_another_name_is_refused_with_the_nearest_device(tmp_path, name, hint):
    with pytest.raises(ConfigError) as error:
        load_settings(tmp_path, environment={}, flags={"trainer.device": name})
    assert error.value.message.startswith("--device is ")
    assert ALLOWED in error.value.message
    assert error.value.hint == hint


def test_the_message_names_the_line_or_the_variable(tmp_path):
    (tmp_path / "daemon.toml").write_text('[trainer]\ndevice = "gpu"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=f'daemon.toml, line 2: trainer.device is "gpu", but {ALLOWED} -> did you'):
        load_settings(tmp_path, environment={})
    with pytest.raises(ConfigError, match="HOTLAP_TRAINER__DEVICE is "):
        load_settings(tmp_path, environment={"HOTLAP_TRAINER__DEVICE": "nvidia"})


def test_a_training_script_may_have_devices_of_its_own(tmp_path):
    flags = {"trainer.device": "mps", "daemon.training_script": "mine.py"}
    assert load_settings(tmp_path, environment={}, flags=flags).trainer.device == "mps"
