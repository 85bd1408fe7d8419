"""Agents that share an index get numbers of their own, or the rollout is rejected with the remedy."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import orjson
import pytest

from schemas.errors import RolloutError
from schemas.rollout.cache import load_rollout, store_rollout
from schemas.rollout.meaning.separation import LEAST_CONFIDENCE, separate_agents
from schemas.rollout.reader import read_rollout
from tests.cars import drive, mixed, next_rows, shared_index_rollout
from tests.helpers import make_rollout, v1_bytes, v1_document


def test_a_file_whose_agents_share_an_index_is_read_with_one_agent_for_each_track():
    _, _, ended, agents = mixed(6, "any", 512)
    rollout = read_rollout(orjson.dumps(v1_document(shared_index_rollout(6, "any"))))
    right = next_rows(agents, ended)
    assert (next_rows(rollout.agents, ended) == right).mean() > 0.95
    assert rollout.recovered is not None
    assert rollout.recovered.agents == 6
    assert LEAST_CONFIDENCE <= rollout.recovered.confidence <= 1.0


def test_a_file_without_a_shared_index_is_not_changed():
    columns = (column.reshape(768, *column.shape[2:]) for column in drive(3, 256))
    observations, actions, ended = columns
    agents = np.tile(np.arange(3, dtype=np.int32), 256)
    rollout = dataclasses.replace(
        make_rollout(n=768), observations=observations, actions=actions, terminated=ended, agents=agents
    )
    assert separate_agents(rollout) is rollout


def test_experiences_without_an_index_among_others_with_one_are_separated():
    """Check files of which only some rows have an agent_index: the others count as agent 0."""
    columns = (column.reshape(1200, *column.shape[2:]) for column in drive(6, 200, seed=2))
    observations, actions, ended = columns
    own = np.tile(np.arange(10, 16, dtype=np.int32), 200)
    rollout = dataclasses.replace(make_rollout(n=1200), observations=observations, actions=actions, terminated=ended)
    document = v1_document(dataclasses.replace(rollout, agents=own))
    for experience in document["experiences"]:
        if experience["agent_index"] >= 13:
            del experience["agent_index"]
    read = read_rollout(orjson.dumps(document))
    assert (read.agents[own < 13] == own[own < 13]).all()
    assert not np.isin(read.agents[own >= 13], own[own < 13]).any()
    assert (next_rows(read.agents, ended) == next_rows(own, ended)).mean() > 0.97


def test_final_observations_of_a_shared_index_are_left_out():
    rollout = shared_index_rollout()
    finals = {"final_observations": rollout.observations[:2], "final_agents": np.array([0, 7], dtype=np.int32)}
    separated = separate_agents(dataclasses.replace(rollout, **finals))
    assert separated.final_agents.tolist() == [7]
    assert (separated.final_observations == rollout.observations[1]).all()
    assert 7 not in separated.agents[rollout.agents == 7]


def test_a_file_that_cannot_be_separated_is_rejected_with_the_remedy():
    with pytest.raises(RolloutError) as caught:
        read_rollout(orjson.dumps(v1_document(shared_index_rollout(4, "fixed", n=1024, noise=0.8))))
    assert caught.value.code == "E_AGENTS"
    assert not caught.value.incomplete
    line = caught.value.line()
    for part in ("share agent_index 0", "confidence 0.", "set AgentIndex in the exporter", "hotlap docs unreal"):
        assert part in line


def test_the_cache_keeps_what_was_recovered(tmp_path):
    separated = separate_agents(shared_index_rollout())
    store_rollout(tmp_path / "rollout", separated)
    loaded = load_rollout(tmp_path / "rollout")
    assert loaded is not None
    assert loaded.recovered == separated.recovered
    assert (loaded.agents == separated.agents).all()


def test_scipy_is_not_loaded_until_agents_are_separated(tmp_path):
    """Check that reading correct files and noticing a shared index need no scipy: the daemon must stay small."""
    (tmp_path / "correct.json").write_bytes(v1_bytes(seed=1, n=256))
    (tmp_path / "shared.json").write_bytes(orjson.dumps(v1_document(shared_index_rollout())))
    code = (
        "import sys; from pathlib import Path\n"
        "from schemas.rollout.meaning.rules import NO_RULES\n"
        "from schemas.rollout.meaning.separation import has_shared_index\n"
        "from schemas.rollout.reader import finished, parse_rollout, read_rollout\n"
        "read_rollout(Path(sys.argv[1], 'correct.json').read_bytes())\n"
        "data = Path(sys.argv[1], 'shared.json').read_bytes()\n"
        "assert has_shared_index(finished(parse_rollout(data), NO_RULES))\n"
        "assert not any(name.split('.')[0] == 'scipy' for name in sys.modules)\n"
        "read_rollout(data)\n"
        "assert 'scipy.optimize' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
