"""Environments by any of their names, held to what DAgger needs of them; each that cannot be used is one line."""

import gymnasium
import numpy as np
import pytest

from schemas.errors import ConfigError
from tests.fakes.corridor import Corridor
from trainer.dagger.actions import actions_of
from trainer.dagger.environment import (
    EnvironmentRaisedError,
    MilestoneEnv,
    ObservationSpec,
    StateError,
    open_environments,
)
from trainer.dagger.milestones import MilestoneConfig

HERE = "tests.trainer.dagger.test_environment"


def config(env, **options):
    milestones = [{"id": "A", "max_steps": 5, "at": 3.0, "checkpoint_m": 9}]
    return MilestoneConfig.model_validate({"env": env, "env_options": options, "milestones": tuple(milestones)})


class Blind(Corridor):
    """Does not say what is seen after load_state()."""

    observe = None

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}


class Telling(Blind):
    """Says it as the answer of load_state(), as `reset` would."""

    def load_state(self, state):
        super().load_state(state)
        return np.full(3, 7.0), {}


class Stateless(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Discrete(2)


def tuple_actions(**given):
    env = Corridor(**given)
    env.action_space = gymnasium.spaces.Tuple([env.action_space])
    return env


def flat_pictures(**given):
    env = Corridor(**given)
    env.observation_space = gymnasium.spaces.Box(0, 1, (4, 4))
    return env


def broken(**given):
    raise RuntimeError("no cartridge")


def test_every_way_to_name_an_environment():
    from gymnasium.envs.registration import register, registry

    register("Corridor-v0", entry_point="tests.fakes.corridor:Corridor", kwargs={"milestones": []})
    try:
        [by_id, *_] = open_environments(config("Corridor-v0"), 1)
    finally:
        registry.pop("Corridor-v0")
    assert by_id.actions.names == ("LEFT", "RIGHT")
    assert len(open_environments(config("tests.fakes.corridor:Corridor"), 16)) == 4, "as many as it allows"
    assert len(open_environments(config("tests.fakes.corridor:Corridor"), 2)) == 2
    [racing, *_] = open_environments(config("racing"), 3)
    assert racing.spec == ObservationSpec((15,), pixels=False)
    assert racing.actions.names == ("steer", "throttle", "brake")
    assert racing.frame().shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("nowhere:Env", "env nowhere:Env cannot be made: ModuleNotFoundError"),
        ("tests.fakes.corridor:Corner", "has no attribute 'Corner'"),
        ("Nothing-v0", "Environment `Nothing` doesn't exist"),
        (f"{HERE}:broken", "RuntimeError: no cartridge"),
        (f"{HERE}:Stateless", "has no save_state, load_state()"),
        (f"{HERE}:tuple_actions", "cannot be learned -> use Discrete, MultiBinary"),
        (f"{HERE}:flat_pictures", "cannot be learned from -> use a one-dimensional Box"),
    ],
)
def test_an_environment_that_cannot_be_used_is_one_line(env, says):
    with pytest.raises(ConfigError) as caught:
        open_environments(config(env), 2)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def world(kind, **options):
    env = kind(milestones=[{"id": "A", "at": 3.0}], **options)
    return MilestoneEnv(env, ObservationSpec((3,), pixels=False), actions_of(env))


def test_what_is_seen_after_a_state_is_loaded():
    state = b'{"x": 2.0}'
    assert world(Corridor).begin(1, state)[0] == 2.0
    assert world(Telling).begin(1, state)[0] == 7.0
    with pytest.raises(ConfigError, match="does not say what is seen after load_state"):
        world(Blind).begin(1, state)
    with pytest.raises(StateError, match="cannot be loaded"):
        world(Corridor).begin(1, b"torn")


def test_an_environment_that_raises_is_told_as_such():
    there = world(Corridor, raises_at=1.0)
    there.begin(1, b'{"x": 2.0}')
    with pytest.raises(EnvironmentRaisedError, match=r"step\(\) raised RuntimeError: the floor gives way"):
        there.step(np.int64(1))


def test_seeds_are_the_environment_s_only_chance():
    a, b = world(Corridor), world(Corridor)
    starts = [float(w.begin(seed, None)[0]) for w, seed in ((a, 1), (b, 1), (b, 2))]
    assert starts[0] == starts[1] != starts[2]
