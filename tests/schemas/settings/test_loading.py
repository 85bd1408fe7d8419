"""Settings come from three places, and every mistake is one line that names the place, the value and the remedy."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from schemas.errors import ConfigError
from schemas.settings.fields import SettingsGroup
from schemas.settings.loading import file_values, load_settings, setting_names, settings_from
from schemas.settings.models import Settings


def write(tmp_path, text):
    (tmp_path / "daemon.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_defaults_are_those_of_the_readme(tmp_path):
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


def test_a_list_in_the_file_is_read(tmp_path):
    write(tmp_path, "[agent]\nhidden_sizes = [64, 64]\n")
    assert load_settings(tmp_path, environment={}).agent.hidden_sizes == (64, 64)


@pytest.mark.parametrize("text", ["64,32", " 64 , 32, ", "[64, 32]", "[64,\n32]"])
def test_a_list_in_a_variable_is_json_or_separated_by_commas(tmp_path, text):
    settings = load_settings(tmp_path, environment={"HOTLAP_AGENT__HIDDEN_SIZES": text})
    assert settings.agent.hidden_sizes == (64, 32)


@pytest.mark.parametrize("text", ["left,right", '["left", "right"]', "left, right"])
def test_a_list_of_names_in_a_variable_is_read(tmp_path, text):
    environment = {"HOTLAP_AGENT__ACTIONS": text, "HOTLAP_AGENT__ACTION_LOW": "0,-2.5"}
    agent = load_settings(tmp_path, environment=environment).agent
    assert agent.contract().action_space.names == ("left", "right")
    assert agent.contract().action_space.low == (0.0, -2.5)


@pytest.mark.parametrize(("text", "n", "names"), [("3", 3, ()), ("left, right", 2, ("left", "right"))])
def test_choices_are_a_number_or_names_in_a_variable_too(tmp_path, text, n, names):
    agent = load_settings(tmp_path, environment={"HOTLAP_AGENT__CHOICES": text}).agent
    assert (agent.contract().action_space.output_size, agent.choice_names) == (n, names)
    written = f"choices = {n}\n" if not names else 'choices = ["left", "right"]\n'
    assert load_settings(write(tmp_path, f"[agent]\n{written}"), environment={}).agent == agent


@pytest.mark.parametrize("place", ["file", "environment", "flag"])
def test_an_epoch_that_no_training_reaches_is_refused(tmp_path, place):
    write(tmp_path, "[daemon]\nauto_load_model_epoch = 5\n" + ("[trainer]\nepochs = 4\n" if place == "file" else ""))
    environment = {"HOTLAP_TRAINER__EPOCHS": "4"} if place == "environment" else {}
    flags = {"trainer.epochs": 4} if place == "flag" else {}
    words = "daemon.auto_load_model_epoch is 5, but trainer.epochs is 4: that epoch does not exist"
    with pytest.raises(ConfigError, match=words):
        load_settings(tmp_path, environment=environment, flags=flags)
    assert load_settings(tmp_path, environment={"HOTLAP_TRAINER__EPOCHS": "5"}).trainer.epochs == 5


def test_a_text_in_a_variable_may_contain_brackets_and_commas(tmp_path):
    settings = load_settings(tmp_path, environment={"HOTLAP_TRAINER__NETWORK": "[a, b]"})
    assert settings.trainer.network == "[a, b]"


IN_THE_FILE = {
    "[trainer]\nlearning_rat = 1\n": (
        "daemon.toml, line 2: unknown setting trainer.learning_rat -> did you mean trainer.learning_rate?"
    ),
    "epochs = 3\n": "daemon.toml, line 1: unknown setting epochs -> did you mean trainer.epochs?",
    "[daemon]\nepochs = 3\n": "daemon.toml, line 2: unknown setting daemon.epochs -> did you mean trainer.epochs?",
    "[trainer]\nxyzzy = 3\n": (
        "daemon.toml, line 2: unknown setting trainer.xyzzy -> `hotlap docs settings` lists all settings"
    ),
    "[trainr]\n": "daemon.toml, line 1: unknown table [trainr] -> did you mean [trainer]?",
    "[trainr]\nepochs = 3\n": "daemon.toml, line 2: unknown setting trainr.epochs -> did you mean trainer.epochs?",
    "trainer = 5\n": (
        "daemon.toml, line 1: trainer is 5, but must be a table -> write [trainer], and its settings in the lines below"
    ),
    "\n[[trainer]]\nepochs = 5\n": (
        'daemon.toml, line 2: trainer is [{"epochs": 5}], but must be a table'
        " -> write [trainer], and its settings in the lines below"
    ),
    "[trainer]\nepochs = 0\n": (
        "daemon.toml, line 2: trainer.epochs is 0, but must be a whole number from 1 to 1000"
        " -> correct it or leave it out (default: 10)"
    ),
    "[trainer]\nepochs = 'many'\n": (
        'daemon.toml, line 2: trainer.epochs is "many", but must be a whole number from 1 to 1000'
        " -> correct it or leave it out (default: 10)"
    ),
    "[trainer]\nepochs = 2.5\n": (
        "daemon.toml, line 2: trainer.epochs is 2.5, but must be a whole number from 1 to 1000"
        " -> correct it or leave it out (default: 10)"
    ),
    "[trainer]\nepochs = { a = 1 }\n": (
        "daemon.toml, line 2: trainer.epochs is a table, but must be a whole number from 1 to 1000"
        " -> correct it or leave it out (default: 10)"
    ),
    "[trainer.epochs]\n": (
        "daemon.toml, line 1: trainer.epochs is a table, but must be a whole number from 1 to 1000"
        " -> correct it or leave it out (default: 10)"
    ),
    "[trainer.schedule]\ncycles = 1\n": (
        "daemon.toml, line 1: unknown setting trainer.schedule -> did you mean trainer.schedule_cycles?"
    ),
    "[trainer]\nlearning_rate = inf\n": (
        "daemon.toml, line 2: trainer.learning_rate is inf, but must be a finite number above 0"
        " -> correct it or leave it out (default: 0.0003)"
    ),
    "[trainer]\nlearning_rate_end = 0\n": (
        "daemon.toml, line 2: trainer.learning_rate_end is 0, but must be a number above 0"
        " -> correct it or leave it out"
    ),
    "[trainer]\nholdout_fraction = 0.9\n": (
        "daemon.toml, line 2: trainer.holdout_fraction is 0.9, but must be a number above 0 and below 0.9"
        " -> correct it or leave it out (default: 0.1)"
    ),
    "[trainer]\nseed = 9223372036854775808\n": (
        "daemon.toml, line 2: trainer.seed is 9223372036854775808, but must be a whole number from 0 to"
        " 9223372036854775807 -> correct it or leave it out (default: 0)"
    ),
    "[trainer]\ndevice = 1979-05-27\n": (
        'daemon.toml, line 2: trainer.device is "1979-05-27", but must be text'
        ' -> texts need quotes: device = "1979-05-27"'
    ),
    "[daemon]\nwarm_trainer = 'maybe'\n": (
        'daemon.toml, line 2: daemon.warm_trainer is "maybe", but must be true or false'
        " -> correct it or leave it out (default: true)"
    ),
    "[daemon]\nlimit_by = 'qualty'\n": (
        'daemon.toml, line 2: daemon.limit_by is "qualty", but must be "age" or "quality" -> did you mean "quality"?'
    ),
    "[daemon]\nlimit_by = 'size'\n": (
        'daemon.toml, line 2: daemon.limit_by is "size", but must be "age" or "quality"'
        ' -> correct it or leave it out (default: "age")'
    ),
    "[agent]\nactions = ['a', 'b', 'a']\n": (
        'daemon.toml, line 2: agent.actions is ["a", "b", "a"], but must be different names: \'a\' appears twice'
        ' -> correct it or leave it out (default: ["steer", "throttle", "brake"])'
    ),
    "[agent]\nactions = ['']\n": (
        'daemon.toml, line 2: agent.actions is [""], but must be printable names of 1 to 128 characters'
        ' -> correct it or leave it out (default: ["steer", "throttle", "brake"])'
    ),
    "[agent]\naction_low = [1.0, 0.0, 0.0]\naction_high = [0.5, 1.0, 1.0]\n": (
        "daemon.toml: [agent]: the bounds of steer are [1, 0.5], but the lower one must be below the upper"
        " -> correct one of them"
    ),
    "[daemon]\nallow_shared = true\n": (
        "daemon.toml, line 2: daemon.allow_shared cannot be set in a file -> use the flag --allow-shared or the"
        " environment variable HOTLAP_DAEMON__ALLOW_SHARED"
    ),
    "[agent]\nchoices = 1\n": (
        "daemon.toml, line 2: agent.choices is 1, but must be a number from 2 to 65536, or a list of at least two"
        " different names -> correct it or leave it out"
    ),
    '[agent]\nchoices = ["a", "a"]\n': (
        'daemon.toml, line 2: agent.choices is ["a", "a"], but must be a number from 2 to 65536, or a list of at least'
        " two different names -> correct it or leave it out"
    ),
    '[agent]\nchoices = 3\nactions = ["a", "b"]\n': (
        "daemon.toml: [agent]: choices are for one action, but actions has 2 names -> correct one of them"
    ),
    "[agent]\nchoices = 3\naction_low = [0.0, 0.0, 0.0]\n": (
        "daemon.toml: [agent]: choices have no bounds: set either choices, or action_low and action_high"
        " -> correct one of them"
    ),
    "[agent]\naction_low = [0.0]\n": (
        "daemon.toml, line 2: agent.action_low is [0.0], but must have one number for each of the 3 actions:"
        " steer, throttle, brake -> correct it or leave it out"
    ),
    "[agent]\nhidden_sizes = 128\n": (
        "daemon.toml, line 2: agent.hidden_sizes is 128, but must be a list of 1 to 8 whole numbers, each at least 1"
        " -> write it in square brackets, such as hidden_sizes = [128, 128]"
    ),
    "[agent]\nhidden_sizes = [64, 0]\n": (
        "daemon.toml, line 2: agent.hidden_sizes is [64, 0], but must be a list of 1 to 8 whole numbers, each at least"
        " 1 -> write it in square brackets, such as hidden_sizes = [128, 128]"
    ),
    "[agent]\nactions = []\n": (
        "daemon.toml, line 2: agent.actions is [], but must be a list of at least 1 text"
        ' -> write it in square brackets, such as actions = ["steer", "throttle", "brake"]'
    ),
    "[trainer]\n\ndevice = cpu\n": (
        'daemon.toml, line 3, column 10 is not valid TOML: Invalid value -> texts need quotes: device = "cpu"'
    ),
}


@pytest.mark.parametrize(("text", "line"), IN_THE_FILE.items())
def test_a_mistake_in_the_file_is_one_plain_line(tmp_path, text, line):
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text), environment={})
    assert caught.value.line() == f"{line} [E_CONFIG]"


IN_A_VARIABLE = {
    ("HOTLAP_TRANIER__EPOCHS", "1"): "does not name a setting -> did you mean HOTLAP_TRAINER__EPOCHS?",
    ("HOTLAP_TRAINER_EPOCHS", "1"): "does not name a setting -> did you mean HOTLAP_TRAINER__EPOCHS?",
    ("HOTLAP_EPOCHS", "1"): "does not name a setting -> did you mean HOTLAP_TRAINER__EPOCHS?",
    (
        "HOTLAP_TRAINER",
        "1",
    ): 'is "1", but must be a table -> set one variable for each setting, such as HOTLAP_TRAINER__ALGORITHM',
    ("HOTLAP_TRAINER__EPOCHS", "many"): (
        'is "many", but must be a whole number from 1 to 1000 -> correct it or leave it out (default: 10)'
    ),
    ("HOTLAP_TRAINER__EPOCHS", ""): (
        'is "", but must be a whole number from 1 to 1000 -> correct it or leave it out (default: 10)'
    ),
    ("HOTLAP_TRAINER__GAMMA", "0,99"): (
        'is "0,99", but must be a number above 0 and at most 1 -> correct it or leave it out (default: 0.99)'
    ),
    ("HOTLAP_TRAINER__PRECISION", "bf16"): (
        'is "bf16", but must be "auto", "float32" or "bfloat16" -> did you mean "bfloat16"?'
    ),
    ("HOTLAP_DAEMON__WARM_TRAINER", "nope"): (
        'is "nope", but must be true or false -> correct it or leave it out (default: true)'
    ),
    ("HOTLAP_AGENT__HIDDEN_SIZES", "128;128"): (
        'is "128;128", but must be a list of 1 to 8 whole numbers, each at least 1'
        " -> separate its items with commas, such as HOTLAP_AGENT__HIDDEN_SIZES=128,128"
    ),
    ("HOTLAP_TRAINER__EPOCHS", '{"n": 1}'): (
        'is "{"n": 1}", but must be a whole number from 1 to 1000 -> correct it or leave it out (default: 10)'
    ),
    ("HOTLAP_AGENT__HIDDEN_SIZES", ""): (
        'is "", but must be a list of 1 to 8 whole numbers, each at least 1'
        " -> separate its items with commas, such as HOTLAP_AGENT__HIDDEN_SIZES=128,128"
    ),
    ("HOTLAP_AGENT__HIDDEN_SIZES", "[128, 128"): (
        'is "[128, 128", but must be a list of 1 to 8 whole numbers, each at least 1'
        " -> separate its items with commas, such as HOTLAP_AGENT__HIDDEN_SIZES=128,128"
    ),
    ("HOTLAP_AGENT__ACTION_HIGH", "one"): (
        'is "one", but must be a list of numbers'
        " -> separate its items with commas, such as HOTLAP_AGENT__ACTION_HIGH=-1.0,0.0"
    ),
}


@pytest.mark.parametrize(("given", "line"), IN_A_VARIABLE.items(), ids=lambda value: str(value[:2]))
def test_a_mistake_in_a_variable_is_one_plain_line(tmp_path, given, line):
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, environment=dict([given]))
    assert caught.value.line() == f"the environment variable {given[0]} {line} [E_CONFIG]"


def test_a_mistake_in_a_flag_names_the_flag(tmp_path):
    with pytest.raises(ConfigError, match=r"^--batch-size is 1, but must be a whole number, at least 2 -> "):
        load_settings(tmp_path, environment={}, flags={"trainer.batch_size": 1})
    with pytest.raises(ConfigError, match=r"^EPOCHS is 0, but must be a whole number from 1 to 1000 -> "):
        load_settings(tmp_path, environment={}, flags={"trainer.epochs": 0}, flag_names={"trainer.epochs": "EPOCHS"})


def test_a_file_that_is_named_is_named_in_messages(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text("[trainer]\nepochs = 0\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, config=path, environment={})
    assert caught.value.line().startswith(f"{path.as_posix()}, line 2: trainer.epochs is 0")


def test_a_named_config_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(tmp_path, config=tmp_path / "none.toml", environment={})


class Group(SettingsGroup):
    required: Annotated[int, Field(ge=1)]
    """A setting without a default."""
    optional: int = 1
    """A setting with one."""


class Required(SettingsGroup):
    group: Group


def test_a_setting_without_a_default_must_be_given(tmp_path):
    path = tmp_path / "file.toml"
    path.write_text("[group]\noptional = 2\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        settings_from(Required, file_values(Required, path), path.as_posix())
    assert caught.value.line() == f"{path.as_posix()}: group.required is missing -> add it [E_CONFIG]"


def test_every_setting_has_a_description():
    for group, field in Settings.model_fields.items():
        for name, setting in field.annotation.model_fields.items():
            assert setting.description, f"{group}.{name}"
    assert len(setting_names()) == len(set(setting_names()))
