"""What users' environments look like: each can be used, or its one-line message says what to do."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from schemas.contract import ContinuousActions, DiscreteActions
from schemas.errors import ConfigError
from trainer.envs.gymnasium_env import GymnasiumVecEnv, check_id
from trainer.online.cli import main


class Base(gymnasium.Env):
    """Checks its actions; an episode has four steps."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def observe(self):
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        self.last = action
        return self.observe(), 1.0, self.t == 4, False, {}


def made(n=2, **attributes):
    """Return a vector environment of a class with these attributes."""
    gymnasium.register("Made-v0", type("Made", (Base,), attributes))
    return GymnasiumVecEnv("Made-v0", n)


@pytest.fixture(autouse=True)
def _registry():
    yield
    gymnasium.registry.pop("Made-v0", None)


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (spaces.Box(0.0, 10.0, (2,), np.float32), 0, 10),
        (spaces.Box(-0.4, 0.4, (2,), np.float64), -0.4, 0.4),
        (spaces.Box(-np.inf, np.inf, (2,), np.float32), -1, 1),
        (spaces.Box(-3.4e38, 3.4e38, (2,), np.float32), -1, 1),
        (spaces.Box(5.0, np.inf, (2,), np.float32), 5, 7),
        (spaces.Box(-np.inf, -7.0, (2,), np.float32), -9, -7),
        (spaces.Box(0, 10, (2,), np.int32), 0, 10),
        (spaces.Box(-1.0, 3.0, (1, 2), np.float32), -1, 3),
    ],
    ids=str,
)
def test_actions_use_the_range_of_the_environment(space, low, high):
    env = made(action_space=space)
    assert isinstance(env.contract.action_space, ContinuousActions)
    env.reset(0)
    for sent, expected in ((-1.0, low), (1.0, high), (0.0, (low + high) / 2)):
        env.step(np.full((2, 2), sent, np.float32))  # the environment asserts that it is in its space
        last = np.ravel(env._envs.envs[0].unwrapped.last)
        assert last == pytest.approx([expected, expected], rel=1e-6)
    assert bool(env.notes) == (not np.isfinite([space.low, space.high]).all() or abs(space.low.min()) > 1e30)
    env.close()


@pytest.mark.parametrize(
    ("space", "n"),
    [
        (spaces.MultiDiscrete([3, 2]), 6),
        (spaces.MultiDiscrete([[2, 2], [3, 1]]), 12),
        (spaces.MultiBinary(3), 8),
        (spaces.Discrete(3, start=5), 3),
    ],
    ids=str,
)
def test_every_combination_of_choices_is_one_choice(space, n):
    env = made(action_space=space, n=1)
    assert env.contract.action_space == DiscreteActions(n=n)
    env.reset(0)
    seen = set()
    for choice in range(n):
        env.step(np.full((1, 1), choice, np.float32))
        seen.add(np.asarray(env._envs.envs[0].unwrapped.last).tobytes())
    assert len(seen) == n
    env.close()


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (spaces.Dict({"a": spaces.Box(-1, 1, (2, 2), np.float32), "b": spaces.Discrete(3)}), 7),
        (spaces.Tuple((spaces.Discrete(4), spaces.Discrete(2))), 6),
        (spaces.Discrete(16), 16),
        (spaces.MultiBinary(5), 5),
    ],
    ids=str,
)
def test_observations_become_one_array(space, size):
    env = made(observation_space=space)
    assert env.contract.observation_size == size
    assert env.reset(0).shape == (2, size)
    for _ in range(5):  # over the end of an episode
        step = env.step(np.zeros((2, 1), np.float32))
    assert step.next_observation.shape == (2, size)
    assert f" space, as {size} numbers" in env.notes[0]
    env.close()


@pytest.mark.parametrize("workers", [False, True])
def test_images_are_bytes_with_channels_last(workers):
    space = spaces.Box(0, 255, (3, 84, 96), np.uint8)
    gymnasium.register("Made-v0", type("Made", (Base,), {"observation_space": space}))
    env = GymnasiumVecEnv("Made-v0", 2, workers=workers)
    assert env.image.shape == (84, 96, 3)
    assert "images of 84 x 96 with 3 channels, given as 3 x 84 x 96" in env.notes[0]
    assert (env.reset(0).dtype, env.reset(0).shape) == (np.uint8, (2, 84 * 96 * 3))
    for _ in range(4):  # to the end of an episode
        step = env.step(np.zeros((2, 1), np.float32))
    assert step.terminated.all()
    assert (step.next_observation.dtype, step.next_observation.shape) == (np.uint8, (2, 84 * 96 * 3))
    assert (step.next_observation != step.observation).any()
    env.close()


def test_a_dict_with_an_image_is_refused_with_what_to_do_unless_the_image_is_all():
    image = spaces.Box(0, 255, (84, 84, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"Made-v0: .* 21,169 numbers -> .*TransformObservation.*o\['screen'\]"):
        made(observation_space=spaces.Dict({"screen": image, "health": spaces.Box(0, 1, (1,))}))
    gymnasium.registry.pop("Made-v0")
    env = made(observation_space=spaces.Dict({"screen": image}))
    assert env.reset(0).dtype == np.uint8
    assert "the image 'screen' of a Dict space" in env.notes[0]
    env.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"observation_space": spaces.Sequence(spaces.Discrete(2))},
            "Made-v0: a policy cannot learn from the observation space Sequence",
        ),
        ({"action_space": spaces.Dict({"a": spaces.Discrete(2)})}, "the actions of Made-v0 are a Dict space -> use"),
        ({"action_space": spaces.MultiDiscrete([300, 300])}, "90,000 different actions -> a policy needs 2 to 65,536"),
        ({"action_space": spaces.Discrete(1)}, "1 different actions -> a policy needs 2 to"),
        ({"action_space": spaces.Box(3.0, 3.0, (1,), np.float32)}, "an empty range"),
    ],
)
def test_a_space_that_no_policy_can_use_is_named(attributes, message):
    with pytest.raises(ConfigError) as caught:
        made(**attributes)
    assert message in caught.value.line()
    assert caught.value.code == "E_ENV"


def old_reset(self, **_):
    return np.zeros(2, np.float32)


def old_step(self, action):
    return np.zeros(2, np.float32), 1.0, False, {}


def broken_init(self, needed):
    del needed


def missing_import(self):
    import a_package_that_nobody_has  # noqa: F401


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"reset": old_reset}, "return (observation, info) from reset and five values from step [E_ENV]"),
        ({"step": old_step}, "return (observation, info) from reset and five values from step [E_ENV]"),
        ({"__init__": broken_init}, "missing 1 required positional argument: 'needed'"),
        ({"__init__": missing_import}, "'a_package_that_nobody_has' -> install a_package_that_nobody_has [E_EXTRA]"),
    ],
    ids=["old reset", "old step", "missing argument", "missing package"],
)
def test_an_environment_that_does_not_work_is_one_line_before_a_run_starts(attributes, message, tmp_path, capsys):
    gymnasium.register("Made-v0", type("Made", (Base,), attributes))
    assert main(["--env", "Made-v0", "--logs", str(tmp_path / "logs")]) == 78
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CartPole-v7", "use a version that exists"),
        ("CartPole", "did you mean CartPole-v1?"),
        ("Cartpole-v1", "Did you mean: `CartPole`? -> correct the name"),
        ("LunarLander-v2", "use a version that exists"),
        ("ALE/Pong-v5", "import a module first, as in ale_py:ALE/Pong-v5"),
        ("json:Nothing-v0", "json must register it with gymnasium.register"),
        ("no_such_module:Any-v0", "install no_such_module, or run in the folder that contains it"),
    ],
)
def test_a_wrong_id_says_what_to_do(name, hint):
    with pytest.raises(ConfigError) as caught:
        check_id(name)
    assert hint in caught.value.line()
    assert caught.value.code == "E_ENV"


def test_a_missing_extra_of_gymnasium_is_named_with_its_command(monkeypatch):
    for module in [name for name in sys.modules if name.startswith(("Box2D", "gymnasium.envs.box2d"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(ConfigError) as caught:
        GymnasiumVecEnv("LunarLander-v3", 1)
    assert caught.value.code == "E_EXTRA"
    assert "pip install" in caught.value.hint
    assert "gymnasium[box2d]" in caught.value.hint
