"""When a warm trainer is worth its memory."""

from __future__ import annotations

import dataclasses

import pytest

from daemon.ledger.cycle import Phase
from daemon.process.machine import Memory
from daemon.training.warm.decision import (
    MIN_LEAD_S,
    MIN_RESERVE_BYTES,
    USUAL_BYTES,
    Situation,
    is_engine_fast,
    is_enough,
    is_wanted,
    lead_s,
    needed_memory,
    training_left_s,
)
from schemas.job import EpochDone

WAITING = Situation(
    phase=Phase.PUBLISHED,
    is_ending=False,
    has_parent=True,
    pending=0,
    needed=10,
    filling_s=0.0,
    gap_s=None,
    training_left_s=None,
)
TRAINING = dataclasses.replace(WAITING, phase=Phase.TRAINING, gap_s=1.0, training_left_s=1.0)


def wanted(situation: Situation, *, cores: float = 4.0, **changes: object) -> bool:
    return is_wanted(dataclasses.replace(situation, **changes), cores=cores, lead_s=10.0)


def test_while_the_daemon_waits_for_rollouts():
    assert wanted(WAITING, cores=1.0)
    assert wanted(WAITING, phase=Phase.FAILED)
    assert not wanted(WAITING, is_ending=True)
    for phase in (Phase.PARKED, Phase.CLAIMED):
        assert not wanted(WAITING, phase=phase)


def test_after_a_restart_once_a_rollout_has_arrived():
    restarted = dataclasses.replace(WAITING, phase=None)
    assert not wanted(restarted)
    assert wanted(restarted, pending=1)
    assert not wanted(restarted, pending=1, has_parent=False)
    assert not wanted(restarted, pending=1, is_ending=True)


@pytest.mark.parametrize("phase", [Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING])
def test_beside_another_trainer_if_the_engine_is_fast(phase):
    assert wanted(TRAINING, phase=phase)
    assert not wanted(TRAINING, phase=phase, gap_s=10.1)
    assert not wanted(TRAINING, phase=phase, gap_s=None)
    assert not wanted(TRAINING, phase=phase, is_ending=True)


def test_beside_another_trainer_if_the_next_cycle_is_nearly_full():
    slow = dataclasses.replace(TRAINING, gap_s=600.0)
    assert wanted(slow, pending=10)
    assert wanted(slow, pending=5, filling_s=9.0)
    assert not wanted(slow, pending=5, filling_s=11.0)
    assert wanted(slow, pending=9, filling_s=80.0)
    assert not wanted(slow, pending=0, filling_s=1.0)


def test_beside_another_trainer_only_near_the_end_of_its_training():
    assert wanted(TRAINING, training_left_s=0.0)
    assert not wanted(TRAINING, training_left_s=10.1)
    assert not wanted(TRAINING, training_left_s=None)


def test_beside_another_trainer_only_with_a_second_core():
    assert wanted(TRAINING, cores=2.0)
    assert not wanted(TRAINING, cores=1.5)


def test_where_a_start_takes_long_it_begins_earlier():
    assert lead_s(None) == lead_s(2.0) == MIN_LEAD_S
    assert lead_s(40.0) == 80.0


def test_a_core_is_left_to_the_next_trainer_if_the_engine_is_fast():
    assert is_engine_fast(3.0, cores=2.0, lead_s=10.0)
    assert not is_engine_fast(3.0, cores=1.0, lead_s=10.0)
    assert not is_engine_fast(11.0, cores=2.0, lead_s=10.0)
    assert not is_engine_fast(None, cores=2.0, lead_s=10.0)


def test_the_rest_of_a_training():
    epochs = [EpochDone(epoch=k, epochs=10, losses={}, score=None, seconds=6.0) for k in (1, 2)]
    times = {"since_epoch_s": 1.0, "elapsed_s": 13.0, "last_s": 20.0}
    assert training_left_s(epochs, 10, **times) == 8 * 6.0 - 1.0
    assert training_left_s([], 10, **times) == 7.0
    assert training_left_s([], 10, **{**times, "last_s": None}) is None
    assert training_left_s(epochs, 2, **times) == 0.0
    assert training_left_s([], 10, **{**times, "elapsed_s": 30.0}) == 0.0


def test_the_memory_that_must_be_free():
    gigabyte = 10**9
    waiting = Memory(300_000_000, 3 * gigabyte)
    alone = needed_memory(waiting, total_bytes=16 * gigabyte, is_beside_another=False)
    assert alone == waiting
    beside = needed_memory(waiting, total_bytes=16 * gigabyte, is_beside_another=True)
    assert beside.resident == waiting.resident + 1_600_000_000
    small = needed_memory(None, total_bytes=2 * gigabyte, is_beside_another=True)
    assert small.resident == USUAL_BYTES + MIN_RESERVE_BYTES
    assert is_enough(waiting, alone)
    assert not is_enough(dataclasses.replace(waiting, resident=299_999_999), alone)
    assert not is_enough(dataclasses.replace(waiting, committed=2 * gigabyte), alone), "the page file is too small"
