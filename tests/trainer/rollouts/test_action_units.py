"""With bounds beyond [-1, 1], the recorded log_probs show how the engine scales the policy's actions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from schemas.contract import ContinuousActions, PolicyContract
from tests.trainer.toy import STEER, Bandit, Loop, loop_for

WIDE = ContinuousActions(names=("turn", "gas"), low=(-1.0, 0.0), high=(1.0, 4.0))
OTHER_POLICY = {"W_STRANGER", "W_LOGP_MISMATCH", "W_FAR_STRANGER"}
SCALE = np.float32([1.0, 4.0])


def in_game_units(rollout, offset=0.0, scale=SCALE, *, shift=0.0):
    """Return a rollout of STEER as an engine with wide bounds records it."""
    return dataclasses.replace(
        rollout,
        contract=PolicyContract(observation_size=4, action_space=WIDE),
        actions=(rollout.actions * scale + np.float32(offset)).astype(np.float32),
        log_probs=(rollout.log_probs - np.float32(shift)).astype(np.float32),
    )


@pytest.mark.parametrize("shift", [0.0, float(np.log(4.0))], ids=["density of the policy's", "density of the game's"])
def test_an_engine_that_multiplies_its_actions_learns_exactly_what_one_with_the_usual_bounds_learns(tmp_path, shift):
    usual = loop_for(Bandit(space=STEER), tmp_path / "usual", seed=3)
    wide = Loop(tmp_path / "wide", PolicyContract(observation_size=4, action_space=WIDE), seed=3)
    env = Bandit(space=STEER)
    model = usual.start()
    wide.start()
    for _ in range(2):
        rollout = env.play(model, 40)
        model = usual.train(rollout)
        scaled = wide.train(in_game_units(rollout, shift=shift))
        assert scaled.contract.action_space == WIDE
        for one, other in zip(model.policy.layers(), scaled.policy.layers(), strict=True):
            np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(model.action_log_std, scaled.action_log_std)


def clamping_bandit():
    return Bandit(space=WIDE)


def test_an_engine_that_only_clamps_is_still_understood(tmp_path):
    loop = loop_for(clamping_bandit(), tmp_path)
    rollout = clamping_bandit().play(loop.start(), 60)
    loop.train(rollout)
    assert not set(loop.reporter.codes()) & OTHER_POLICY


def test_an_engine_that_stretches_its_actions_is_recognised(tmp_path):
    centred = ContinuousActions(names=("turn", "gas"), low=(-1.0, -1.0), high=(1.0, 1.0))
    model = loop_for(Bandit(space=centred), tmp_path / "usual").start()
    loop = Loop(tmp_path / "wide", PolicyContract(observation_size=4, action_space=WIDE))
    loop.start()
    loop.train(in_game_units(Bandit(space=centred).play(model, 60), offset=(0.0, 2.0), scale=np.float32([1.0, 2.0])))
    assert not set(loop.reporter.codes()) & OTHER_POLICY
