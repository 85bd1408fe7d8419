"""Notices about an exporter: rewards of unusual size, an engine that uses old models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from schemas.rollout.rollout import LeftOut
from tests.helpers import make_rollout
from tests.trainer.toy import columns
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.rollouts.behaviour_policy import PolicySource
from trainer.rollouts.quality import (
    check_policy_sources,
    check_rollouts,
    check_staleness,
    measure_quality,
)


def notices(*rollouts) -> dict[str, str]:
    recorder = MemoryReporter()
    check_rollouts([measure_quality(rollout) for rollout in rollouts], rollouts[0].contract, Notices(recorder))
    return {notice.code: notice.message for notice in recorder.events}


def codes(*rollouts) -> list[str]:
    return list(notices(*rollouts))


@pytest.mark.parametrize(("scale", "is_reported"), [(1e6, True), (1.0, False), (1e-7, True)])
def test_rewards_of_unusual_size_are_reported(scale, is_reported):
    rollout = make_rollout()
    unusual = dataclasses.replace(rollout, rewards=(rollout.rewards * scale).astype(np.float32))
    assert ("W_REWARD_SCALE" in codes(unusual)) is is_reported


@pytest.mark.parametrize(
    ("foreign", "early", "is_trained", "expected"),
    [
        (0.0, 0.0, True, []),
        (0.5, 0.0, True, ["W_LOGP_MISMATCH"]),
        (0.5, 1.0, True, ["W_EARLY_ROLLOUTS"]),
        (1.0, 0.5, True, ["W_LOGP_MISMATCH", "W_EARLY_ROLLOUTS"]),
        (0.5, 1.0, False, ["W_STRANGER"]),
    ],
)
def test_old_rollouts_are_not_called_the_fault_of_the_exporter(foreign, early, is_trained, expected):
    recorder = MemoryReporter()
    order = np.arange(100)
    source_B = np.where(order < 100 * foreign, PolicySource.FOREIGN, PolicySource.PARENT).astype(np.int8)
    is_early_B = order % 2 < 2 * early if early != 0.5 else order % 2 == 0
    check_policy_sources(source_B, is_early_B, anything_trained=is_trained, notices=Notices(recorder))
    assert recorder.codes() == expected


@pytest.mark.parametrize(("is_trained", "code"), [(True, "W_LOGP_MISMATCH"), (False, "W_STRANGER")])
def test_off_policy_learning_reports_other_policies_as_usable_and_early_ones_not_at_all(is_trained, code):
    recorder = MemoryReporter()
    source_B = np.repeat(np.array([PolicySource.FOREIGN, PolicySource.UNKNOWN], np.int8), 50)
    state = {"anything_trained": is_trained, "is_off_policy": True, "notices": Notices(recorder)}
    check_policy_sources(source_B, np.arange(100) < 25, **state)
    assert recorder.codes() == ["W_LOGP_BROKEN", code]
    assert [("td3 learns" in e.message, "count less" in e.message) for e in recorder.events] == [(True, False)] * 2


@pytest.mark.parametrize(("stale", "steps", "is_reported"), [(96, 100, True), (94, 100, False), (0, 0, False)])
def test_an_engine_that_uses_old_models_is_reported(stale, steps, is_reported):
    recorder = MemoryReporter()
    check_staleness(np.arange(steps) < stale, Notices(recorder))
    assert (recorder.codes() == ["W_STALE"]) is is_reported


def test_an_observation_that_is_sometimes_far_larger_is_reported_with_the_setting():
    rollout = columns(100)
    observations = rollout.observations.copy()
    observations[::3, 2] = 1e9
    found = notices(dataclasses.replace(rollout, observations=observations))
    assert "observation 2 reaches 1e+09" in found["W_OBSERVATION_RANGE"]
    assert "agent.observation_limit" in found["W_OBSERVATION_RANGE"]
    assert "W_OBSERVATION_RANGE" not in notices(columns(100))


def test_what_was_left_out_is_reported_with_its_columns_over_all_rollouts():
    causes = (LeftOut("observation 5", 10, "3.4e+38"),)
    rollouts = [dataclasses.replace(columns(100, seed=i), left_out=10, causes=causes) for i in range(2)]
    assert "observation 5 is 3.4e+38 in 20 of 220 experiences" in notices(*rollouts)["W_LEFT_OUT"]
