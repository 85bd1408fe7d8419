"""A declared mirror: what it does to arrays, that it is its own inverse, and what cannot be a mirror."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.job import Job
from schemas.mirror import Mirror
from schemas.settings.mirror import MirrorSettings
from schemas.settings.models import TrainerSettings

WINGS = ContinuousActions(names=("left", "right", "tail"), low=(-1.0, -1.0, -2.0), high=(1.0, 1.0, 2.0))


def of(space, observations=4, **settings):
    return Mirror.of(
        MirrorSettings(**settings), PolicyContract(observation_size=observations, action_space=space), ("a", "b", "c")
    )


def test_pairs_swap_and_signs_change():
    mirror = of(
        WINGS,
        observation_pairs=[(1, 3)],
        observation_signs=[0, 1, 3],
        action_pairs=[("left", "right")],
        action_signs=["tail"],
    )
    np.testing.assert_array_equal(mirror.observations(np.array([[1.0, 2.0, 3.0, 4.0]])), [[-1.0, -4.0, 3.0, -2.0]])
    np.testing.assert_array_equal(mirror.actions(np.array([[1.0, 2.0, 3.0]], np.float32)), [[2.0, 1.0, -3.0]])
    assert mirror.actions(np.zeros((2, 5, 3), np.float32)).shape == (2, 5, 3)
    assert mirror.in_words() == "of 4 observations 2 swap and 3 change sign, of 3 actions 2 swap and 1 change sign"


def test_choices_swap():
    mirror = of(DiscreteActions(n=3), choice_pairs=[("a", "c")])
    np.testing.assert_array_equal(mirror.actions(np.array([[0.0], [1.0], [2.0]], np.float32)), [[2.0], [1.0], [0.0]])
    np.testing.assert_array_equal(mirror.outputs(np.array([[5.0, 6.0, 7.0]])), [[7.0, 6.0, 5.0]])


@given(st.permutations(range(8)), st.integers(0, 4), st.sets(st.integers(0, 7)))
def test_a_mirror_is_its_own_inverse(order, count, signs):
    pairs = [(order[2 * i], order[2 * i + 1]) for i in range(count)]
    partner = dict(pairs) | {b: a for a, b in pairs}
    signs = sorted({s for sign in signs for s in (sign, partner.get(sign, sign))})
    mirror = of(WINGS, 8, observation_pairs=pairs, observation_signs=signs, action_pairs=[("left", "right")])
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    np.testing.assert_array_equal(mirror.observations(mirror.observations(x)), x)
    assert mirror.is_own_inverse()


def test_a_rotation_of_three_is_noticed_as_no_mirror():
    mirror = of(WINGS)
    cycle = Mirror(np.array([1, 2, 0]), np.ones(3, np.float32), np.arange(3), np.ones(3, np.float32), False)
    negated_once = Mirror(np.array([1, 0]), np.array([1, -1], np.float32), np.arange(1), np.ones(1, np.float32), False)
    assert mirror.is_own_inverse()
    assert not cycle.is_own_inverse()
    assert not negated_once.is_own_inverse()


CANNOT_FIT = {
    "observation_signs names observation 4, but they are 0 to 3": (WINGS, {"observation_signs": [4]}),
    "observation_pairs names observation 9, but they are 0 to 3": (WINGS, {"observation_pairs": [(0, 9)]}),
    "observation_signs names observation 1, but not observation 2, which swaps with it: name both or none": (
        WINGS,
        {"observation_pairs": [(1, 2)], "observation_signs": [1]},
    ),
    'action_signs names "rudder", but the actions are left, right, tail': (WINGS, {"action_signs": ["rudder"]}),
    "action_pairs swaps left and tail, but left has the bounds [-1, 1] and tail has the bounds [-2, 2]": (
        WINGS,
        {"action_pairs": [("left", "tail")]},
    ),
    "action_signs names brake, but brake has the bounds [0, 1], which are not symmetric around 0": (
        ContinuousActions.named(("brake",)),
        {"action_signs": ["brake"]},
    ),
    "choice_pairs is for agent.choices, but the actions are numbers: use action_pairs": (
        WINGS,
        {"choice_pairs": [(0, 1)]},
    ),
    "action_signs is for actions that are numbers; choices have choice_pairs": (
        DiscreteActions(n=3),
        {"action_signs": ["left"]},
    ),
    "choice_pairs names choice 3, but they are 0 to 2": (DiscreteActions(n=3), {"choice_pairs": [(0, 3)]}),
    'choice_pairs names "d", but the choices are a, b, c': (DiscreteActions(n=3), {"choice_pairs": [("a", "d")]}),
}


@pytest.mark.parametrize("message", CANNOT_FIT)
def test_what_does_not_fit_is_named(message):
    space, settings = CANNOT_FIT[message]
    with pytest.raises(ValueError) as caught:
        of(space, **settings)
    assert str(caught.value) == message


def test_bounds_that_are_mirror_images_fit():
    space = ContinuousActions(names=("up", "down"), low=(0.0, -3.0), high=(3.0, 0.0))
    mirror = of(space, action_pairs=[("up", "down")], action_signs=["up", "down"])
    np.testing.assert_array_equal(mirror.actions(np.array([[1.0, -2.0]])), [[2.0, -1.0]])


def test_a_job_carries_the_mirror():
    mirror = MirrorSettings(observation_pairs=[(0, 1)], choice_pairs=[("a", 2)], action_signs=["steer"])
    contract = PolicyContract(observation_size=4, action_space=WINGS)
    job = Job(
        kind="train",
        policy_version=1,
        output="",
        contract=contract,
        hidden_sizes=(8,),
        settings=TrainerSettings(),
        mirror=mirror,
    )
    assert Job.from_bytes(job.to_bytes()).mirror == mirror
    assert Job.from_bytes(job.model_copy(update={"mirror": None}).to_bytes()).mirror is None
