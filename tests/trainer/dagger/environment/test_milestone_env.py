"""What a milestone sees of an environment. Each fault of the environment is reported in one line."""

import io

import numpy as np
import pytest

from tests.fakes.corridor import Corridor
from tests.fakes.walk import NoRender, NoState, PathState, Silent, StuckReached, Tuples, Walk
from trainer.dagger.actions import read_action_spec
from trainer.dagger.environment.errors import EnvironmentRaisedError, NoFrameError, StateError
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.envs.observations import ObservationSpec


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


def milestone_env(kind=Corridor, **options):
    env = kind(milestones=[{"id": "A", "at": 3.0}], **options)
    return MilestoneEnv(env, ObservationSpec((3,), is_image=False), read_action_spec(env))


def test_first_observation_is_that_of_the_start_state():
    state = b'{"x": 2.0}'
    assert milestone_env().reset(1, state)[0] == 2.0
    assert milestone_env(ReturnsObservation).reset(1, state)[0] == 7.0
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
        'info["milestones"] is 1, which does not name a milestone -> let it contain the ids that are reached',
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
}


def use_everything(env):
    env.reset(1, None)
    env.step(np.int64(1))
    env.expert_state()
    env.save_state()


@pytest.mark.parametrize(("methods", "message"), FAULTS.values(), ids=FAULTS)
def test_error_of_the_environment_is_reported_as_such(methods, message):
    kind = type("Faulty", (Corridor,), {name: staticmethod(function) for name, function in methods.items()})
    env = milestone_env(kind)
    with pytest.raises(EnvironmentRaisedError) as caught:
        use_everything(env)
    assert message in str(caught.value)
    assert caught.value.code == "E_ENV"
    if "raised" in message:
        assert "(test_milestone_env.py, line " in str(caught.value)
        assert "correct test_milestone_env.py" in str(caught.value)


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


def walk(kind):
    env = kind()
    return MilestoneEnv(env, ObservationSpec((2,), is_image=False), read_action_spec(env))


def test_without_an_observation_after_loading_an_episode_starts_with_one_idle_step():
    env = walk(PathState)
    env.reset(1, None)
    for _ in range(4):
        env.step(np.int64(1))
    state = env.save_state()
    assert env.start_note() == ""
    observation = env.reset(2, state)
    assert observation.tolist() == pytest.approx([(int(state) - 1) / 10, 1.0]), "one step to the left"
    assert "each episode starts with one step of the action LEFT -> let it return" in env.start_note()


def test_an_environment_without_states_can_still_be_used_from_its_reset():
    env = walk(NoState)
    assert not env.can_save()
    env.reset(1, None)
    with pytest.raises(StateError, match=r"has no save_state\(\) and load_state\(\)"):
        env.reset(1, b"state")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Walk, 'info["milestones"] had only DOOR'),
        (Silent, 'its steps have no info["milestones"]'),
        (StuckReached, ""),
    ],
)
def test_what_was_reported_instead_of_a_milestone_is_told(kind, text):
    env = walk(kind)
    env.reset(1, None)
    start = env.save_state() if kind is StuckReached else None
    env.reset(1, start)
    for _ in range(6):
        env.step(np.int64(1))
    assert env.reported_milestones("GOAL") == text


def test_the_state_for_the_expert_is_that_of_its_step():
    """Environments change their sets and arrays in the next step."""
    from trainer.dagger.expert.codec import pack, read_message

    env = walk(Tuples)
    env.reset(1, None)
    before = env.expert_state()
    env.step(np.int64(1))
    env.expert_state()
    [state] = read_message(io.BytesIO(pack([before])).read)
    [place] = state["visited"]
    assert (state["pos"], state["tiles"]) == (place, {place: "grass"})


@pytest.mark.parametrize("state", [2**70, {"self": None}], ids=["a number that is too large", "a circle"])
def test_a_state_that_cannot_be_sent_is_reported(state):
    if isinstance(state, dict):
        state["self"] = state
    env = walk(type("Odd", (Walk,), {"expert_state": lambda self: state}))
    env.reset(1, None)
    with pytest.raises(EnvironmentRaisedError, match=r"the result of expert_state\(\) cannot be sent to the expert"):
        env.expert_state()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoRender, "the environment has no render()"),
        (type("Abstract", (Walk,), {"render": fail}), "render() raised RuntimeError: the floor gives way (test_mile"),
        (type("Headless", (Walk,), {"render": lambda self: None}), "render() did not return an array"),
    ],
    ids=["no method", "raises", "returns nothing"],
)
def test_an_environment_that_cannot_be_drawn_has_no_frames(kind, message):
    env = walk(kind)
    env.reset(1, None)
    with pytest.raises(NoFrameError) as caught:
        env.render()
    assert message in str(caught.value)
