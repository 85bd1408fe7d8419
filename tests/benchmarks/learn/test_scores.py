"""Scores are normalised per environment, from the untrained policy to Stable-Baselines3's PPO."""

from __future__ import annotations

import math

import pytest

from benchmarks.learn.environments.catalogue import ENVIRONMENTS, REPORT, TUNE, Measure
from benchmarks.learn.environments.recorded import RecordedCycle
from benchmarks.learn.scores import filled, run_scores, scale, scales
from tests.benchmarks.learn.records import record


def test_a_cycle_without_the_end_of_an_episode_has_the_score_before_it():
    assert filled([None, 1.0, None, 3.0], first=-5.0) == [-5.0, 1.0, 1.0, 3.0]


def test_the_untrained_policy_is_0_and_the_final_of_ppo_is_1():
    stored = [
        record("untrained", "racing", [0.1, 0.2, 0.3]),
        record("sb3-ppo", "racing", [0.3, 0.7, 0.7, 0.7], seed=0),
        record("sb3-ppo", "racing", [0.3, 0.9, 0.9, 0.9], seed=1),
        record("hotlap-v2", "racing", [0.2, 0.5, 0.8, 1.1]),
    ]
    racing = scales(stored)["racing"]
    assert racing(0.2) == pytest.approx(0.0)
    assert racing(0.8) == pytest.approx(1.0)
    found = run_scores(stored[-1], racing)
    assert found.area == pytest.approx((0.0 + 0.5 + 1.0 + 1.5) / 4)
    assert found.final == pytest.approx(1.0)
    assert found.steps_to_reference == 0.75


def test_a_run_that_does_not_reach_ppo_never_does():
    racing = scale(0.2, 0.8, "racing")
    assert run_scores(record("hotlap-v2", "racing", [0.2, 0.79]), racing).steps_to_reference == math.inf


def test_an_environment_in_which_ppo_learns_nothing_has_a_unit():
    acrobot = scale(-500.0, -500.0, "Acrobot-v1")
    assert not acrobot.is_reference_learning
    assert acrobot(-500.0) == 0.0
    assert acrobot(-420.0) == pytest.approx(1.0)


def test_an_environment_without_both_scales_is_left_out():
    assert scales([record("sb3-ppo", "racing", [0.5])]) == {}
    assert scales([record("untrained", "racing", [0.5])]) == {}


def test_every_environment_is_in_one_half_and_each_half_has_every_kind():
    assert set(TUNE) | set(REPORT) == set(ENVIRONMENTS)
    assert not set(TUNE) & set(REPORT)
    assert len(ENVIRONMENTS) >= 10
    for half in (TUNE, REPORT):
        assert any(name.startswith("racing") for name in half)
        assert any(ENVIRONMENTS[name].is_discrete for name in half)
        assert any(ENVIRONMENTS[name].needs == "mujoco" for name in half)


def test_the_score_of_a_cycle_is_in_the_measure_of_its_environment():
    cycle = RecordedCycle(reward_per_step=-2.0, mean_return=-350.0, episodes=3)
    assert cycle.score(ENVIRONMENTS["racing"]) == -2.0
    assert cycle.score(ENVIRONMENTS["Acrobot-v1"]) == -350.0
    assert ENVIRONMENTS["Pendulum-v1"].measure is Measure.FIXED
    assert cycle.score(ENVIRONMENTS["Pendulum-v1"]) == -400.0
