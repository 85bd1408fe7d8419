"""Environments are found by all forms of their name; an unusable one is reported in one line."""

import sys

import gymnasium
import numpy as np
import pytest

from schemas.errors import ConfigError
from tests.fakes.corridor import Corridor
from tests.fakes.walk import NoRender, Walk
from trainer.dagger.environment.creation import open_environments
from trainer.dagger.milestones import MilestoneConfig
from trainer.envs.observations import ObservationSpec

HERE = "tests.trainer.dagger.environment.test_creation"


def config(env, *, num_envs=None, **options):
    milestones = ({"id": "A", "max_steps": 5, "at": 3.0, "checkpoint_m": 9},)
    document = {"env": env, "env_options": options, "num_envs": num_envs, "milestones": milestones}
    return MilestoneConfig.model_validate(document)


class Older(Corridor):
    """Uses the older name of num_envs."""

    num_envs = property(lambda self: self.missing)  # as if the environment did not have it
    lanes = 3


class Stepless:
    """Has only a part of what an environment needs."""

    def reset(self):
        pass


def tuple_actions(**given):
    env = Corridor(**given)
    env.action_space = gymnasium.spaces.Tuple([env.action_space])
    return env


def raises(**given):
    raise RuntimeError("no cartridge")


def exits(**given):
    raise SystemExit(3)


def test_every_form_of_an_environment_name_is_accepted():
    from gymnasium.envs.registration import register, registry

    register("Corridor-v0", entry_point="tests.fakes.corridor:Corridor", kwargs={"milestones": []})
    try:
        [by_id, *_] = open_environments(config("Corridor-v0"), 1)
    finally:
        registry.pop("Corridor-v0")
    assert by_id.actions.names == ("LEFT", "RIGHT")
    [racing, *_] = open_environments(config("racing"), 3)
    assert racing.spec == ObservationSpec((15,), is_image=False)
    assert racing.actions.names == ("steer", "throttle", "brake")
    assert racing.render().shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("env", "num_envs", "max_count", "count"),
    [
        ("tests.fakes.corridor:Corridor", None, 16, 4),
        ("tests.fakes.corridor:Corridor", None, 2, 2),
        ("tests.fakes.corridor:Corridor", 6, 16, 6),
        (f"{HERE}:Older", None, 16, 3),
    ],
    ids=["as many as the environment allows", "at most the maximum", "the config decides", "the older name"],
)
def test_number_of_environments(env, num_envs, max_count, count):
    assert len(open_environments(config(env, num_envs=num_envs), max_count)) == count


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("nowhere:Env", "env nowhere:Env cannot be created: ModuleNotFoundError"),
        ("tests.fakes.corridor:Corner", "has no attribute 'Corner'"),
        ("Nothing-v0", "Environment `Nothing` doesn't exist"),
        ("racng", "env racng cannot be created: NameNotFound: Environment `racng` doesn't exist"),
        ("racng", "-> did you mean racing?"),
        (f"{HERE}:raises", "RuntimeError: no cartridge"),
        (f"{HERE}:Stepless", "does not have step() -> see `hotlap docs dagger`"),
        (f"{HERE}:raises", "(test_creation.py, line "),
        (f"{HERE}:exits", "cannot be created: SystemExit: 3"),
        ("nowhere.py:Env", "nowhere.py does not exist"),
        (f"{HERE}:tuple_actions", "DAgger cannot learn the action space Tuple(Discrete(2)) -> use Discrete"),
    ],
)
def test_environment_that_cannot_be_used_is_reported_in_one_line(env, message):
    with pytest.raises(ConfigError) as caught:
        open_environments(config(env), 2)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_option_is_named_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"env racing does not have the option trak \(in env_options\) -> its options are track, gust"
    ):
        open_environments(config("racing", trak=1), 1)


def opened(env, folder=None):
    [first, *_] = open_environments(config(env), 1, folder=folder)
    return first


def test_an_environment_can_be_a_file_beside_the_config(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    text = "from tests.fakes.walk import Walk\n\nclass Beside(Walk):\n    pass\n"
    (tmp_path / "beside_by_path.py").write_text(text)
    (tmp_path / "beside_by_name.py").write_text(text)
    assert opened("beside_by_path.py:Beside", tmp_path).actions.names == ("LEFT", "RIGHT")
    assert opened("beside_by_name:Beside", tmp_path).actions.names == ("LEFT", "RIGHT")


def test_a_module_can_register_its_environment():
    """As with `minigrid:MiniGrid-Empty-5x5-v0`."""
    gymnasium.register("Registered-v3", entry_point="tests.fakes.walk:Walk")
    try:
        assert opened("tests.fakes.walk:Registered-v3").actions.names == ("LEFT", "RIGHT")
    finally:
        gymnasium.registry.pop("Registered-v3")


def test_a_render_mode_is_requested_only_if_the_environment_may_have_it():
    assert opened("tests.fakes.walk:NoRender").spec.shape == (2,)
    given = []

    class Lists(Walk):
        metadata = {"render_modes": ["human", "rgb_array_list"]}

        def __init__(self, render_mode=None):
            given.append(render_mode)
            super().__init__()

    globals()["lists"] = Lists
    opened(f"{HERE}:lists")
    assert given == ["rgb_array_list"]
    assert NoRender().x == 0


def test_what_wrappers_hide_is_found():
    """Since version 1.0, Gymnasium's wrappers hide all methods that Gymnasium does not know."""
    envs = open_environments(config("tests.fakes.walk:wrapped"), 9)
    assert len(envs) == 3
    assert envs[0].actions.names == ("LEFT", "RIGHT")
    first = envs[0].reset(1, None)
    state = envs[0].save_state()
    envs[0].step(np.int64(1))
    assert envs[0].reset(2, state).tolist() == first.tolist(), "as the wrapper returns it, multiplied by ten"
    assert first[1] == 10.0
