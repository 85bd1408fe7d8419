"""Outliers online: a sensor that fails in few steps changes neither the statistics nor the scale of the returns."""

import dataclasses

import numpy as np
import pytest
import torch

from schemas.contract import PolicyContract
from tests.trainer.toy import STEER, columns
from trainer.envs.vec_env import Step
from trainer.networks.normaliser import Normalisers, ReturnNormaliser
from trainer.online.actor import Actor
from trainer.online.collector import Collector
from trainer.online.config import OnlineSettings, RunSettings, TrainSettings
from trainer.online.learners.choice import make_learner
from trainer.online.learners.ppo import ScheduledValues
from trainer.rollouts.experiences import by_agent

CONTRACT = PolicyContract(observation_size=4, action_space=STEER)


def batch(seed, glitch=0.0):
    """Return 512 steps of four agents, whose second sensor fails in three of a thousand steps."""
    agents = np.tile(np.arange(4, dtype=np.int32), 128)
    rollout = columns(512, seed=seed, agents=agents, terminated=np.random.default_rng(seed).random(512) < 0.02)
    if glitch:
        rollout.observations[np.random.default_rng(100 + seed).random(512) < 0.003, 1] = glitch
    experiences = by_agent(rollout)
    return dataclasses.replace(experiences, log_prob_B=np.zeros(512, np.float32))


def learner_for(algorithm):
    torch.set_num_threads(1)
    train = TrainSettings(algorithm=algorithm, hidden_sizes=(16, 16), epochs=2, updates_per_experience=0.02)
    return make_learner(CONTRACT, OnlineSettings(train=train, run=RunSettings(device="cpu", threads=1)))


def learned(algorithm, glitch, batches=8):
    """Return a learner after some batches, and its notes."""
    learner, notes = learner_for(algorithm), []
    for iteration in range(batches):
        learner.learn(batch(iteration, glitch), iteration, ScheduledValues.at(0, learner.settings))
        notes += learner.notes
        learner.notes.clear()
    return learner, notes


@pytest.mark.parametrize("algorithm", ["ppo", "td3"])
@pytest.mark.parametrize("glitch", [1e3, 1e6, 9e11])
def test_a_sensor_that_fails_in_few_steps_is_reported_once_and_changes_no_scale(algorithm, glitch):
    clean, nothing = learned(algorithm, 0.0)
    other, notes = learned(algorithm, glitch)
    assert not nothing
    (note,) = notes
    assert f"observation 1 is {glitch:.3g} in " in note
    assert "W_OUTLIERS" in note
    one, two = clean.normalisers, other.normalisers
    torch.testing.assert_close(two.observations.scale_O, one.observations.scale_O, rtol=0.05, atol=0)
    assert two.returns.std == pytest.approx(one.returns.std, rel=0.5)


@pytest.mark.parametrize("algorithm", ["ppo", "td3"])
def test_a_checkpoint_of_an_earlier_version_recovers(algorithm):
    learner, _ = learned(algorithm, 0.0, batches=2)
    before = learner.normalisers
    observations = before.observations
    var_O = observations.var_O.clone()
    var_O[1] = 1e14
    poisoned = dataclasses.replace(observations, var_O=var_O)
    learner.normalisers = Normalisers(poisoned, ReturnNormaliser(0.0, 3e11, True))
    learner.learn(batch(7), 7, ScheduledValues.at(0, learner.settings))
    assert any("W_RECOVERED" in note for note in learner.notes)
    after = learner.normalisers
    assert float(after.observations.scale_O[1]) == pytest.approx(float(observations.scale_O[1]), rel=0.5)
    assert after.returns.std < 100.0


class ClockEnv:
    """Observes the time in float64; a step takes a second."""

    contract, n_agents = PolicyContract(observation_size=4, action_space=STEER), 2

    def __init__(self, dtype):
        self._dtype, self._time = dtype, 1.7e9

    def _seen(self):
        self._time += 1.0
        return np.array([[self._time, 0.5, -0.5, 1.0]] * 2, self._dtype)

    def reset(self, seed):
        return self._seen()

    def step(self, action):
        seen, no = self._seen(), np.zeros(2, bool)
        return Step(seen, seen, np.ones(2, np.float32), no, no, {})


def test_a_clock_keeps_its_digits_online():
    learner = learner_for("ppo")
    actor = Actor.of(learner.network, learner.normalisers, CONTRACT)
    collected = Collector(ClockEnv(np.float64), 0).collect(actor, 64, np.random.default_rng(0))
    assert np.diff(collected.observation_BO[:64, 0]).tolist() == [1.0] * 63
    assert collected.final_observation_FO.dtype == np.float64
    learner.learn(collected, 0, ScheduledValues.at(0, learner.settings))
    assert float(learner.normalisers.observations.var_O[0].sqrt()) == pytest.approx(18.47, rel=1e-3)
    same = Collector(ClockEnv(np.float32), 0).collect(actor, 8, np.random.default_rng(0))
    assert same.observation_BO.dtype == np.float32
