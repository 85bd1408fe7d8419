"""Environments are found by all forms of their name; an unusable one is reported in one line."""

import gymnasium
import numpy as np
import pytest

from schemas.errors import ConfigError
from tests.fakes.corridor import Corridor
from trainer.dagger.actions import read_action_spec
from trainer.dagger.environment import (
    EnvironmentRaisedError,
    MilestoneEnv,
    ObservationSpec,
    StateError,
    open_environments,
)
from trainer.dagger.milestones import MilestoneConfig

HERE = "tests.trainer.dagger.test_environment"


def config(env, *, num_envs=None, **options):
    milestones = ({"id": "A", "max_steps": 5, "at": 3.0, "checkpoint_m": 9},)
    document = {"env": env, "env_options": options, "num_envs": num_envs, "milestones": milestones}
    return MilestoneConfig.model_validate(document)


class WithoutObserve(Corridor):
    """Does not return the observation after load_state()."""

    observe = None

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}


class ReturnsObservation(WithoutObserve):
    """Returns the observation from load_state(), as `reset` does."""

    def load_state(self, state):
        super().load_state(state)
        return np.full(3, 7.0), {}


class Older(Corridor):
    """Uses the older name of num_envs."""

    num_envs = property(lambda self: self.missing)  # as if the environment did not have it
    lanes = 3


class Stateless(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Discrete(2)


def tuple_actions(**given):
    env = Corridor(**given)
    env.action_space = gymnasium.spaces.Tuple([env.action_space])
    return env


def flat_images(**given):
    env = Corridor(**given)
    env.observation_space = gymnasium.spaces.Box(0, 1, (4, 4))
    return env


def raises(**given):
    raise RuntimeError("no cartridge")


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
        (f"{HERE}:Stateless", "does not have save_state(), load_state()"),
        (f"{HERE}:tuple_actions", "DAgger cannot learn the action space Tuple(Discrete(2)) -> use Discrete"),
        (f"{HERE}:flat_images", "-> use a one-dimensional Box, or a Box [height, width, channels] of uint8"),
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


def milestone_env(kind=Corridor, **options):
    env = kind(milestones=[{"id": "A", "at": 3.0}], **options)
    return MilestoneEnv(env, ObservationSpec((3,), is_image=False), read_action_spec(env))


def test_first_observation_is_that_of_the_start_state():
    state = b'{"x": 2.0}'
    assert milestone_env().reset(1, state)[0] == 2.0
    assert milestone_env(ReturnsObservation).reset(1, state)[0] == 7.0
    with pytest.raises(ConfigError, match=r"the observation after load_state\(\) is unknown"):
        milestone_env(WithoutObserve).reset(1, state)
    with pytest.raises(StateError, match="the start state cannot be loaded: JSONDecodeError"):
        milestone_env().reset(1, b"torn")


def fail(*_, **__):
    raise RuntimeError("the floor gives way")


FAULTS = {
    "reset raises": ({"reset": fail}, "the environment's reset() raised RuntimeError: the floor gives way"),
    "reset returns only the observation": (
        {"reset": lambda **_: np.zeros(3)},
        "the environment's reset() must return (observation, info)",
    ),
    "step raises": ({"step": fail}, "the environment's step() raised RuntimeError: the floor gives way"),
    "step of the old Gym": (
        {"step": lambda _: (np.zeros(3), 0.0, False, {})},
        "step() must return (observation, reward, terminated, truncated, info)",
    ),
    "milestones is a number": (
        {"step": lambda _: (np.zeros(3), 0.0, False, False, {"milestones": 1})},
        'info["milestones"] must be a list of ids',
    ),
    "nan": (
        {"step": lambda _: (np.array([0.0, np.nan, 0.0]), 0.0, False, False, {})},
        "the environment's step() returned an observation that contains nan or inf",
    ),
    "another shape": (
        {"step": lambda _: (np.zeros(4), 0.0, False, False, {})},
        "the environment's step() returned an observation of shape (4,) instead of (3,)",
    ),
    "expert_state raises": ({"expert_state": fail}, "the environment's expert_state() raised RuntimeError"),
    "save_state raises": ({"save_state": fail}, "the environment's save_state() raised RuntimeError"),
    "render raises": ({"render": fail}, "the environment's render() raised RuntimeError"),
    "render returns nothing": ({"render": lambda: None}, "render() did not return an array [height, width, 3]"),
}


def use_everything(env):
    env.reset(1, None)
    env.step(np.int64(1))
    env.expert_state()
    env.save_state()
    env.render()


@pytest.mark.parametrize(("methods", "message"), FAULTS.values(), ids=FAULTS)
def test_error_of_the_environment_is_reported_as_such(methods, message):
    kind = type("Faulty", (Corridor,), {name: staticmethod(function) for name, function in methods.items()})
    env = milestone_env(kind)
    with pytest.raises(EnvironmentRaisedError) as caught:
        use_everything(env)
    assert message in str(caught.value)
    assert caught.value.code == "E_ENV"


def test_reached_milestone_can_be_a_single_id():
    kind = type("Single", (Corridor,), {"step": lambda *_: (np.zeros(3), 0.0, False, False, {"milestones": "AB"})})
    env = milestone_env(kind)
    env.reset(1, None)
    assert env.step(np.int64(1))[2] == {"AB"}


def test_observations_are_copies_because_environments_reuse_their_arrays():
    buffer = np.zeros(3, np.float32)
    kind = type("Reuses", (Corridor,), {"reset": lambda *_, **__: (buffer, {})})
    first = milestone_env(kind).reset(1, None)
    buffer += 1.0
    assert first.tolist() == [0.0] * 3


def test_only_the_seed_decides_an_episode():
    a, b = milestone_env(), milestone_env()
    first = [float(env.reset(seed, None)[0]) for env, seed in ((a, 1), (b, 1), (b, 2))]
    assert first[0] == first[1] != first[2]
