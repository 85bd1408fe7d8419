"""What doctor tells of an exporter: agents mixed up, rewards of an odd size, an engine that plays old models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.helpers import make_rollout
from trainer.common.reporting import MemoryReporter, Notices
from trainer.rollouts.quality import agents_together, check_rollouts, check_staleness, measure_quality

AGENTS, STEPS = 8, 128


def played(*, agents: np.ndarray, noise: float = 0.02, seed: int = 3):
    """Agents that drift slowly, each at its own place, interleaved as engines write them."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(1, AGENTS, 15)) * 2
    drift = np.cumsum(rng.normal(scale=noise, size=(STEPS, AGENTS, 15)), axis=0)
    observations = (places + drift).reshape(-1, 15).astype(np.float32)
    return dataclasses.replace(make_rollout(n=STEPS * AGENTS), observations=observations, agents=agents)


def codes(*rollouts) -> list[str]:
    recorder = MemoryReporter()
    check_rollouts([measure_quality(rollout) for rollout in rollouts], rollouts[0].contract, Notices(recorder))
    return recorder.codes()


def test_agents_that_share_an_index_are_told_by_how_many_there_are():
    shared = played(agents=np.zeros(STEPS * AGENTS, dtype=np.int32))
    assert agents_together(shared) % AGENTS == 0
    assert agents_together(shared) > 0
    assert "W_AGENTS_MIXED" in codes(shared)


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_agents_with_an_index_each_are_not_suspected(noise):
    own = np.tile(np.arange(AGENTS), STEPS).astype(np.int32)
    assert agents_together(dataclasses.replace(played(agents=own, noise=noise))) == 0


def test_neither_noise_nor_one_slow_agent_is_suspected():
    one = np.zeros(STEPS * AGENTS, dtype=np.int32)
    assert agents_together(dataclasses.replace(make_rollout(n=1024), agents=one[:1024])) == 0
    walk = np.cumsum(np.random.default_rng(0).normal(size=(1024, 15)), axis=0).astype(np.float32)
    assert agents_together(dataclasses.replace(make_rollout(n=1024), observations=walk, agents=one)) == 0


@pytest.mark.parametrize(("scale", "is_told"), [(1e6, True), (1.0, False), (1e-7, True)])
def test_rewards_of_an_odd_size_are_told(scale, is_told):
    rollout = make_rollout()
    odd = dataclasses.replace(rollout, rewards=(rollout.rewards * scale).astype(np.float32))
    assert ("W_REWARD_SCALE" in codes(odd)) is is_told


@pytest.mark.parametrize(("behind", "is_told"), [([1.0, 1.0, 0.9], True), ([1.0, 0.5], False), ([], False)])
def test_an_engine_that_plays_old_models_is_told(behind, is_told):
    recorder = MemoryReporter()
    check_staleness(behind, Notices(recorder))
    assert (recorder.codes() == ["W_STALE"]) is is_told
