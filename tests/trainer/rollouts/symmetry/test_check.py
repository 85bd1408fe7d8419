"""A wrong mirror is noticed in one cycle of the racing game; a right one is not, also on a track with one side only."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from schemas.contract import ContinuousActions, PolicyContract
from schemas.error_codes import remedy_for
from schemas.job import Job
from schemas.mirror import Mirror
from schemas.settings.mirror import MirrorSettings
from schemas.settings.models import TrainerSettings
from tests.trainer.toy import CHOICE, columns
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.racing.vec_env import MIRROR
from trainer.rollouts.experiences import by_agent
from trainer.rollouts.symmetry.check import find_mismatch, usable_mirror

SPACE = ContinuousActions.named(RacingSimulation.ACTION_NAMES)
CONTRACT = PolicyContract(observation_size=15, action_space=SPACE)


def steer_to_the_middle(observation):
    """Return the mean actions of a driver that keeps away from the walls."""
    mean = np.zeros((len(observation), 3))
    mean[:, 0] = 1.5 * (observation[:, 6] - observation[:, 5]) + 2.0 * (observation[:, 8] - observation[:, 7])
    mean[:, 1] = 0.3 + 0.9 * observation[:, 4] - 0.6 * observation[:, 0]
    mean[:, 2] = observation[:, 0] - observation[:, 4] - 0.1
    return mean


@cache
def driven(*, track=None, pull=0.0, steps=320, seed=0):
    """Return the experiences of 8 agents. `pull` is added to their steering by the car, and not recorded."""
    game, rng = RacingSimulation(8, seed=seed, track=track), np.random.default_rng(seed)
    parts = []
    observation = game.observe()
    for _ in range(steps):
        noisy = steer_to_the_middle(observation) + rng.normal(0.0, 0.5, (8, 3))
        action = np.clip(noisy, SPACE.low, SPACE.high).astype(np.float32)
        step = game.step(np.clip(action + np.array([pull, 0.0, 0.0]), SPACE.low, SPACE.high))
        parts.append((observation, action, step.reward, step.terminated, step.truncated))
        observation = step.observation
    observations, actions, rewards, terminated, truncated = map(np.concatenate, zip(*parts, strict=True))
    rollout = columns(
        len(rewards),
        observation_size=15,
        space=SPACE,
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        agents=np.tile(np.arange(8, dtype=np.int32), steps),
    )
    return by_agent(rollout)


def mirror(**changed):
    return Mirror.of(MIRROR.model_copy(update=changed), CONTRACT)


@pytest.mark.parametrize("track", [None, 0, 1], ids=["all tracks", "turns left", "turns right"])
def test_a_right_mirror_fits(track):
    assert find_mismatch(driven(track=track), mirror(), SPACE) is None


WRONG = {
    "the yaw rate keeps its sign": ({"observation_signs": (3, 13)}, 1),
    "the roll rate keeps its sign": ({"observation_signs": (1, 13)}, 3),
    "gravity sideways keeps its sign": ({"observation_signs": (1, 3)}, 13),
    "the pitch rate changes its sign": ({"observation_signs": (1, 2, 3, 13)}, 2),
    "the speed changes its sign": ({"observation_signs": (0, 1, 3, 13)}, 0),
    "the rays to both sides do not swap": ({"observation_pairs": ((7, 8),)}, 5),
    "the diagonal rays do not swap": ({"observation_pairs": ((5, 6),)}, 5),
    "steer keeps its sign": ({"action_signs": ()}, 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_mirror_is_noticed_and_the_worst_observation_named(name):
    changed, observation = WRONG[name]
    found = find_mismatch(driven(), mirror(**changed), SPACE)
    assert found is not None
    assert observation in {index for index, _ in found.worst}


def test_a_sign_of_an_observation_that_hardly_changes_is_noticed():
    found = find_mismatch(driven(), mirror(observation_signs=(1, 3, 13, 14)), SPACE)
    assert found is not None
    assert found.never_seen == (14,)
    assert found.in_words().startswith("the mirror image of observation 14 is never observed")


def test_a_car_that_pulls_to_one_side_is_noticed():
    found = find_mismatch(driven(pull=0.4), mirror(), SPACE)
    assert found is not None
    assert 1 in {index for index, _ in found.worst}


def test_a_few_steps_decide_nothing():
    assert find_mismatch(driven(steps=8), mirror(action_signs=()), SPACE) is None


@pytest.mark.parametrize("pairs", [((0, 1),), ((0, 2),)], ids=["right", "wrong"])
def test_choices_are_checked_too(pairs):
    """Choice 0 moves the first observation down, choice 1 up; choice 2 does nothing."""
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 3, (1200, 1)).astype(np.float32)
    moves = np.array([-1.0, 1.0, 0.0])[actions[:, 0].astype(int)]
    position = np.zeros(1200)
    for row in range(1, 1200):
        position[row] = 0.8 * position[row - 1] + moves[row - 1] + 0.1 * rng.normal()
    observations = np.stack([position, rng.normal(size=1200)], axis=1).astype(np.float32)
    steps = by_agent(columns(1200, observation_size=2, space=CHOICE, observations=observations, actions=actions))
    declared = MirrorSettings(observation_signs=(0,), choice_pairs=pairs)
    found = find_mismatch(steps, Mirror.of(declared, PolicyContract(observation_size=2, action_space=CHOICE)), CHOICE)
    assert (found is None) == (pairs == ((0, 1),))


def test_the_notice_names_the_observations_and_the_remedy_and_the_cycle_trains_without_the_mirror():
    declared = MIRROR.model_copy(update={"observation_signs": (3, 13)})
    job = Job(
        kind="train",
        policy_version=1,
        output="",
        contract=CONTRACT,
        hidden_sizes=(8,),
        settings=TrainerSettings(),
        mirror=declared,
    )
    reporter = MemoryReporter()
    assert usable_mirror(driven(), job, Notices(reporter)) is None
    [notice] = reporter.events
    assert notice.code == "W_MIRROR"
    assert notice.message.startswith(
        "agent.mirror does not fit the game, so this cycle trains without it: with it, the prediction error is larger "
        "for observation 1 ("
    )
    assert notice.message.endswith(remedy_for("W_MIRROR"))
    right = job.model_copy(update={"mirror": MIRROR})
    assert usable_mirror(driven(), right, Notices(MemoryReporter())) is not None
    assert usable_mirror(driven(), job.model_copy(update={"mirror": None}), Notices(MemoryReporter())) is None
