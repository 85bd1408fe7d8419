"""A stored rollout is used only if reading a rollout file could have made it."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import orjson
import pytest

from schemas.rollout.cache import _COLUMNS, load_rollout, store_rollout
from schemas.storage.files import sha256_of
from tests.faults.support.cache_files import head_of, packed, wrong_files
from tests.helpers import make_rollout

GOOD = make_rollout(n=16)
NAME = f"{sha256_of(b'x')}.columns"


@pytest.mark.fault(85)
def test_files_with_a_right_checksum_and_wrong_content_are_read_as_missing(tmp_path):
    path, taken = tmp_path / NAME, []
    for fault, data in wrong_files(GOOD).items():
        path.write_bytes(data)
        if load_rollout(path) is not None:
            taken.append(fault)
    assert taken == []


def test_the_test_files_differ_from_a_good_one_only_in_their_fault(tmp_path):

    path, arrays = tmp_path / NAME, [getattr(GOOD, name) for name in _COLUMNS]
    path.write_bytes(packed(orjson.dumps(head_of(GOOD, arrays)), arrays))
    assert load_rollout(path) is not None


@pytest.mark.fault(85)
def test_the_arrays_of_another_rollout_are_read_as_missing(tmp_path):
    store_rollout(tmp_path / NAME, GOOD)
    other = tmp_path / f"{sha256_of(b'y')}.columns"
    other.write_bytes((tmp_path / NAME).read_bytes())
    assert load_rollout(tmp_path / NAME) is not None
    assert load_rollout(other) is None


@pytest.mark.fault(85)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_link_a_pipe_and_a_folder_are_read_as_missing(tmp_path):
    store_rollout(tmp_path / NAME, GOOD)
    names = [tmp_path / name for name in ("link", "pipe", "folder")]
    names[0].symlink_to(tmp_path / NAME)
    os.mkfifo(names[1])
    names[2].mkdir()
    assert [load_rollout(path) for path in names] == [None, None, None]


def test_unknown_log_probs_and_final_critic_observations_are_kept(tmp_path):
    critic = np.zeros((16, 2), np.float32)
    rollout = dataclasses.replace(
        GOOD,
        log_probs=np.full(16, np.nan, np.float32),
        final_observations=GOOD.observations[:2],
        final_agents=GOOD.agents[:2],
        critic_observations=critic,
        final_critic_observations=np.array([[np.nan, np.nan], [1.0, 2.0]], np.float32),
    )
    store_rollout(tmp_path / NAME, rollout)
    again = load_rollout(tmp_path / NAME)
    assert again is not None
    assert np.isnan(again.log_probs).all()
    assert again.final_critic_observations[1].tolist() == [1.0, 2.0]
    part = np.array([[np.nan, 2.0], [1.0, 2.0]], np.float32)
    store_rollout(tmp_path / NAME, dataclasses.replace(rollout, final_critic_observations=part))
    assert load_rollout(tmp_path / NAME) is None
