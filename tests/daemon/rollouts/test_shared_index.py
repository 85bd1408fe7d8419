"""Files whose agents share an agent_index: separated in the child process, one warning, confidences in doctor."""

from __future__ import annotations

import orjson
import pytest

from daemon.diagnostics.exporter_health import judge_agents
from daemon.rollouts.reading import reader as reader_module
from daemon.rollouts.reports.recoveries import remembered_recoveries
from schemas.rollout.cache import load_rollout
from tests.cars import shared_index_rollout
from tests.helpers import v1_document, write_rollout


def shared(seed: int, n: int = 384, **options: object) -> bytes:
    return orjson.dumps(v1_document(shared_index_rollout(seed=seed, n=n, **options)))


@pytest.fixture
def harness(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=40)
    harness.until_published(0)
    return harness


def accepted(harness, count):
    harness.until(lambda: harness.ledger.pending_count() == count)


def warnings_of(harness, code):
    return [w for w in harness.context.warnings() if w.code == code]


def test_files_with_a_shared_index_are_separated_and_reported_once(harness, monkeypatch):
    def fail(*_):
        raise AssertionError("agents were separated in the daemon")

    monkeypatch.setattr(reader_module, "separate_agents", fail)  # in this process, not in the child
    for index in (1, 2):
        write_rollout(harness.paths.exports, index, shared(index))
    accepted(harness, 2)
    for row in harness.ledger.pending_rollouts():
        stored = load_rollout(harness.paths.cached_rollout(row.row.sha256))
        assert stored is not None
        assert len(set(stored.agents.tolist())) >= 6
    assert harness.log.count("W_AGENTS_MIXED") == 1
    [warning] = warnings_of(harness, "W_AGENTS_MIXED")
    for part in ("rollout_1_20261121_120000.json", "about 6 at a time", "confidence ", "AgentIndex", "docs unreal"):
        assert part in warning.message
    found = remembered_recoveries(harness.ledger)
    assert list(found) == ["rollout_1_20261121_120000.json", "rollout_2_20261121_120000.json"]
    level, text = judge_agents(found)
    assert level == "wrong"
    for part in ("about 6 agents", "last 2 such files", "confidence ", "AgentIndex"):
        assert part in text


def test_the_warning_ends_when_the_exporter_is_corrected(harness):
    write_rollout(harness.paths.exports, 0, shared(0))
    accepted(harness, 1)
    assert warnings_of(harness, "W_AGENTS_MIXED")
    for index in range(1, 11):
        write_rollout(harness.paths.exports, index)
    accepted(harness, 11)
    assert not warnings_of(harness, "W_AGENTS_MIXED")
    assert judge_agents(remembered_recoveries(harness.ledger))[0] == "ok"


def test_a_file_that_cannot_be_separated_is_rejected_before_a_cycle(harness):
    path = write_rollout(harness.paths.exports, 1, shared(1, n=1024, cars=4, order="fixed", noise=0.8))
    harness.until(lambda: not path.exists())
    [(name, code, reason, _)] = harness.ledger.rejections(5)
    assert (name, code) == (path.name, "E_AGENTS")
    assert "AgentIndex" in reason
    assert (harness.paths.rejected / path.name).exists()
    assert harness.ledger.pending_count() == 0
