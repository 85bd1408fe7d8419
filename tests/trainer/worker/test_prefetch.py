"""What a spare trainer reads ahead changes when a job is done, never what comes out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.job import Job
from schemas.storage.files import sha256_of
from tests.trainer.toy import HIDDEN, Bandit, loop_for
from trainer.common import prefetch_cache as memory
from trainer.common.reporting import MemoryReporter
from trainer.worker.jobs import run_job
from trainer.worker.prefetch import prefetch, warm_up_job


@pytest.fixture(autouse=True)
def nothing_known():
    """Before and after: the memory of this process, which serves many jobs, is empty."""
    memory.AHEAD.clear()
    yield
    memory.AHEAD.clear()


@pytest.fixture
def job(tmp_path):
    """A job that goes on from a trained parent, on three new rollouts."""
    world = Bandit()
    loop = loop_for(world, tmp_path / "before")
    model = loop.train(world.play(loop.start(), 40))
    given = tuple(loop.given(world.play(model, 40)) for _ in range(3))
    parent = loop.output / loop.result.checkpoint
    (tmp_path / "out").mkdir()
    return Job(
        kind="train",
        cycle=2,
        output=str(tmp_path / "out"),
        contract=loop.contract,
        hidden_sizes=HIDDEN,
        settings=loop.settings,
        rollouts=given,
        parent=str(parent),
        parent_sha256=sha256_of(parent.read_bytes()),
    )


def told_of(job, *rollouts):
    return job.model_copy(update={"kind": "prefetch", "rollouts": rollouts, "output": ""})


def outcome(job):
    for path in Path(job.output).iterdir():
        path.unlink()
    result = run_job(job, MemoryReporter())
    return {name: (Path(job.output) / name).read_bytes() for name in (result.model, "model_analysis.json")}


def test_the_result_is_the_same_bytes_with_and_without(job):
    plain = outcome(job)
    prefetch(told_of(job, *job.rollouts[:1]))
    warm_up_job(told_of(job))
    prefetch(told_of(job, *job.rollouts[1:2]))
    assert outcome(job) == plain
    assert outcome(job) == plain  # the start was given out once, and is made anew


def test_what_was_read_ahead_is_not_read_again(job):
    plain = outcome(job)
    prefetch(told_of(job, *job.rollouts))
    Path(job.parent).unlink()
    for given in job.rollouts:
        Path(given.cache).unlink()
    assert outcome(job) == plain


def test_a_rollout_that_was_prefetched_with_other_candidates_is_attributed_again(job):
    plain = outcome(job)
    assert all(given.behaviours for given in job.rollouts)
    prefetch(told_of(job, *(given.model_copy(update={"behaviours": ()}) for given in job.rollouts)))
    assert outcome(job) == plain


def test_another_parent_than_expected_is_the_one_that_training_starts_from(job):
    plain = outcome(job)
    first = Path(job.parent).parents[1] / "cycle_000000" / "model_epoch_0.pt"
    prefetch(told_of(job.model_copy(update={"parent": str(first), "parent_sha256": sha256_of(first.read_bytes())})))
    assert memory.AHEAD.size == 1
    assert outcome(job) == plain


@pytest.mark.parametrize("broken", ["parent", "rollout", "contract"])
def test_what_cannot_be_read_ahead_is_left_for_the_job(job, broken):
    plain = outcome(job)
    gone = job.rollouts[0].model_copy(update={"cache": "nowhere", "source": "nowhere"})
    other = job.contract.model_copy(update={"observation_size": 9})
    wrong = {
        "parent": told_of(job.model_copy(update={"parent": "nowhere.pt"}), *job.rollouts),
        "rollout": told_of(job, gone, *job.rollouts),
        "contract": told_of(job.model_copy(update={"contract": other}), *job.rollouts),
    }
    prefetch(wrong[broken])
    warm_up_job(wrong[broken])
    assert outcome(job) == plain


def test_the_memory_has_a_bound(monkeypatch):
    monkeypatch.setattr(memory, "MOST_BYTES", 100)
    known = memory.PrefetchCache()
    known.put("a", 1, size_bytes=60)
    known.put("b", 2, size_bytes=60)
    assert (known.get("a"), known.get("b")) == (1, None)
