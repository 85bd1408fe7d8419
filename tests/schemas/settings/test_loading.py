"""Settings come from three places, and every mistake is one line that names the remedy."""

from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from schemas.settings.loading import load_settings, setting_names
from schemas.settings.models import Settings


def write(tmp_path, text):
    (tmp_path / "daemon.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_defaults_are_those_the_readme_promises(tmp_path):
    settings = load_settings(tmp_path, environment={})
    assert settings == Settings()
    assert settings.daemon.auto_train_after_n_rollouts == 10
    assert settings.trainer.learning_rate == 3e-4


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    write(tmp_path, "[trainer]\nepochs = 3\nbatch_size = 32\nseed = 9\n")
    environment = {"HOTLAP_TRAINER__EPOCHS": "5", "HOTLAP_TRAINER__BATCH_SIZE": "128", "PATH": "x"}
    settings = load_settings(tmp_path, environment=environment, flags={"trainer.epochs": 7, "trainer.device": None})
    trainer = settings.trainer
    assert (trainer.epochs, trainer.batch_size, trainer.seed, trainer.device) == (7, 128, 9, "auto")


def test_lists_come_from_the_file_and_from_the_environment(tmp_path):
    write(tmp_path, "[agent]\nhidden_sizes = [64, 64]\n")
    settings = load_settings(tmp_path, environment={"HOTLAP_AGENT__ACTIONS": '["left", "right"]'})
    assert settings.agent.hidden_sizes == (64, 64)
    assert settings.agent.contract().action_space.names == ("left", "right")


MISTAKES = {
    "misspelt in the file": ("[trainer]\nlearning_rat = 1\n", {}, "did you mean trainer.learning_rate?"),
    "in no table": ("epochs = 3\n", {}, "did you mean trainer.epochs?"),
    "in the wrong table": ("[daemon]\nepochs = 3\n", {}, "did you mean trainer.epochs?"),
    "misspelt in the environment": ("", {"HOTLAP_TRANIER__EPOCHS": "1"}, "did you mean HOTLAP_TRAINER__EPOCHS?"),
    "out of range": ("[trainer]\nepochs = 0\n", {}, "trainer.epochs = 0 in daemon.toml"),
    "of the wrong type": ("[trainer]\nepochs = 'many'\n", {}, "trainer.epochs = 'many' in daemon.toml"),
    "infinite": ("[trainer]\nlearning_rate = inf\n", {}, "finite"),
    "no TOML": ("[trainer\n", {}, "line 1"),
    "bounds that do not fit": ("[agent]\naction_low = [0.0]\n", {}, "1 numbers for 3 actions"),
}


@pytest.mark.parametrize(("text", "environment", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do(tmp_path, text, environment, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text), environment=environment)
    assert words in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_named_config_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="not there"):
        load_settings(tmp_path, config=tmp_path / "none.toml", environment={})


def test_every_setting_says_what_it_does():
    for group, field in Settings.model_fields.items():
        for name, setting in field.annotation.model_fields.items():
            assert setting.description, f"{group}.{name}"
    assert len(setting_names()) == len(set(setting_names()))
