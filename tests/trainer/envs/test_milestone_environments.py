"""The built-in environments with milestones: racing, and stable-retro's free game if it is installed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer.envs.racing.milestones import RacingMilestones

ROOT = Path(__file__).parents[3]
LAP = [{"id": "NEAR", "checkpoint_m": 20}, {"id": "FAR", "checkpoint_m": 60}]


def driver():
    folder = str(ROOT / "examples" / "dagger_racing")
    sys.path.insert(0, folder)
    try:
        from pursuit import drive
    finally:
        sys.path.remove(folder)
    return drive


def lap(env, seed, steps=80, start=None):
    """Drive with the example's expert; return the observations and the milestones that were reached."""
    drive, observations = driver(), [env.reset(seed=seed)[0]]
    if start is not None:
        env.load_state(start)
        observations = [env.observe()]
    for _ in range(steps):
        observation, _, over, _, info = env.step(np.array(drive(env.expert_state()), np.float32))
        observations.append(observation)
        if over or len(info["milestones"]) == 2:
            break
    return np.array(observations), info["milestones"]


def test_a_lap_reaches_its_milestones_and_the_same_seed_repeats_it():
    env = RacingMilestones(milestones=LAP)
    first, reached = lap(env, 3)
    again, _ = lap(RacingMilestones(milestones=LAP), 3)
    other, _ = lap(env, 4)
    assert reached == ["NEAR", "FAR"]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[1], other[1])


def test_a_state_contains_car_and_distance_and_the_seed_determines_the_gusts():
    env = RacingMilestones(milestones=LAP)
    lap(env, 3, steps=12)
    state = env.save_state()
    observations, driven = env.observe(), env._driven
    lap(env, 9, steps=12)
    env.reset(seed=1)
    env.load_state(state)
    np.testing.assert_array_equal(env.observe(), observations)
    assert env._driven == driven
    (a, _), (b, _), (c, _) = (lap(env, seed, steps=5, start=state) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[0], c[0])
    assert not np.array_equal(a[3], c[3])


def test_damaged_states_and_bad_milestones_are_rejected():
    env = RacingMilestones(milestones=LAP)
    state = env.save_state()
    for damaged in (b"", state[:10], state[:-40], b"x" + state):
        with pytest.raises(ValueError):
            env.load_state(damaged)
    with pytest.raises(ValueError, match="FAR needs checkpoint_m"):
        RacingMilestones(milestones=[{"id": "FAR"}])


def test_every_milestone_of_the_examples_has_an_expert():
    for name in ("racing", "airstriker"):
        config = json.loads((ROOT / "configs" / f"dagger_{name}.json").read_text())
        for milestone in config["milestones"]:
            assert (ROOT / config["policy_dir"] / f"{milestone['id']}.py").is_file()


@pytest.fixture
def airstriker():
    pytest.importorskip("stable_retro", reason="the retro extra is not installed")
    from trainer.envs.retro import RetroMilestones

    config = json.loads((ROOT / "configs" / "dagger_airstriker.json").read_text())
    env = RetroMilestones(milestones=config["milestones"], **config["env_options"])
    yield env
    env.close()


def test_an_emulator_state_is_restored(airstriker):
    fire = np.array([1, 0, 0], np.int8)
    airstriker.reset(seed=5)
    for _ in range(48):
        _, _, _, _, info = airstriker.step(fire)
    state = airstriker.save_state()
    after = []
    for _ in range(2):
        airstriker.reset(seed=8)
        airstriker.load_state(state)
        after.append([airstriker.observe(), *(airstriker.step(fire)[0] for _ in range(10))])
    np.testing.assert_array_equal(after[0], after[1])
    assert after[0][0].shape == (56, 80, 2)
    assert info["lives"] == 3
    with pytest.raises(ValueError, match="damaged"):
        airstriker.load_state(state[:-9])


def test_conditions_on_ram_variables():
    from trainer.envs.retro import _parse_condition

    holds = _parse_condition({"id": "A", "condition": {"score": {">=": 100}, "lives": {">": 0}}})
    assert holds({"score": 100, "lives": 1})
    assert not holds({"score": 100, "lives": 0})
    assert not holds({"score": 99, "lives": 3})
    assert not holds({"lives": 3})
    for bad in (None, {}, {"score": 100}, {"score": {"=>": 1}}):
        with pytest.raises(ValueError, match="milestone A"):
            _parse_condition({"id": "A", "condition": bad})
