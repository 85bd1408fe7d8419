"""What a warm trainer prefetches changes when a job is done, never its result."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.errors import ConfigError
from schemas.storage.files import sha256_of
from tests.trainer.toy import job_with_trained_parent
from trainer.common import prefetch_cache
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter
from trainer.worker import warmup
from trainer.worker.jobs import run_job
from trainer.worker.prefetch import prefetch
from trainer.worker.serve import _wait_for_job
from trainer.worker.warmup import warm_up_for


@pytest.fixture
def cache():
    return PrefetchCache()


@pytest.fixture
def job(tmp_path):
    """Return a job with a trained parent and three new rollouts, with critic observations."""
    return job_with_trained_parent(tmp_path)


def preview_of(job, *rollouts):
    return job.model_copy(update={"kind": "prefetch", "rollouts": rollouts, "output": ""})


def outcome(job, cache=None):
    for path in Path(job.output).iterdir():
        path.unlink()
    result = run_job(job, MemoryReporter(), cache)
    return {name: (Path(job.output) / name).read_bytes() for name in (result.model, "model_analysis.json")}


def test_the_result_has_the_same_bytes_with_and_without_prefetching(job, cache):
    plain = outcome(job)
    prefetch(preview_of(job, *job.rollouts[:1]), cache)
    warm_up_for(preview_of(job))
    prefetch(preview_of(job, *job.rollouts[1:2]), cache)
    assert outcome(job, cache) == plain
    assert outcome(job, cache) == plain  # the first run changed the cached parent, so it must not be used again


def test_the_result_has_the_same_bytes_if_a_core_is_left_to_another_process(job):
    assert outcome(job.model_copy(update={"busy_cores": 1})) == outcome(job)


def test_prefetched_files_are_not_read_again(job, cache):
    plain = outcome(job)
    prefetch(preview_of(job, *job.rollouts), cache)
    Path(job.parent).unlink()
    for entries in job.rollouts:
        Path(entries.cache).unlink()
    assert outcome(job, cache) == plain


def test_a_job_with_another_parent_than_the_preview_starts_from_its_own(job, cache):
    plain = outcome(job)
    first = Path(job.parent).parents[1] / "cycle_000000" / "model_epoch_0.pt"
    other = {"parent": str(first), "parent_sha256": sha256_of(first.read_bytes())}
    prefetch(preview_of(job.model_copy(update=other)), cache)
    assert cache.size == 1
    assert outcome(job, cache) == plain


def test_a_job_with_other_candidates_than_the_preview_attributes_again(job, cache):
    """With version 0 as the only candidate, the steps of version 1 belong to another policy."""
    plain = outcome(job)
    first = str(Path(job.parent).parents[1] / "cycle_000000" / "model_epoch_0.json")
    prefetch(preview_of(job, *(r.model_copy(update={"behaviours": (first,)}) for r in job.rollouts)), cache)
    assert outcome(job, cache) == plain


@pytest.mark.parametrize("broken", ["parent", "rollout", "contract"])
def test_a_file_that_cannot_be_prefetched_is_reported_by_the_job(job, cache, broken):
    plain = outcome(job)
    gone = job.rollouts[0].model_copy(update={"cache": "nowhere", "source": "nowhere"})
    other = job.contract.model_copy(update={"observation_size": 9})
    wrong = {
        "parent": preview_of(job.model_copy(update={"parent": "nowhere.pt"}), *job.rollouts),
        "rollout": preview_of(job, gone, *job.rollouts),
        "contract": preview_of(job.model_copy(update={"contract": other}), *job.rollouts),
    }
    prefetch(wrong[broken], cache)
    assert outcome(job, cache) == plain


@pytest.mark.parametrize("loss", ["nowhere:loss", "raising_loss:loss"])
def test_warming_up_does_not_report_wrong_settings_and_user_code(job, tmp_path, monkeypatch, loss):
    (tmp_path / "raising_loss.py").write_text("def loss(batch, new, config):\n    raise ValueError('zeros')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    job = job.model_copy(update={"settings": job.settings.model_copy(update={"loss": loss})})
    warm_up_for(preview_of(job))
    with pytest.raises((ConfigError, ValueError)):
        run_job(job, MemoryReporter())


def test_the_cache_has_a_size_limit(monkeypatch):
    monkeypatch.setattr(prefetch_cache, "MAX_BYTES", 100)
    cache = PrefetchCache()
    cache.put("a", 1, size_bytes=60)
    cache.put("b", 2, size_bytes=60)
    assert (cache.get("a"), cache.get("b")) == (1, None)


def test_without_a_known_parent_only_the_rollouts_are_read(job, cache):
    plain = outcome(job)
    no_parent = {"parent": None, "parent_sha256": None}
    prefetch(preview_of(job.model_copy(update=no_parent), *job.rollouts), cache)
    assert {key[0] for key in cache.keys} == {"rollout", "quality"}
    for entries in job.rollouts:
        Path(entries.cache).unlink()
    assert outcome(job, cache) == plain


def test_the_gpu_is_warmed_up_only_when_a_preview_names_it(job, cache, monkeypatch):
    """As long as another trainer uses it, previews name the CPU."""
    devices = ["cpu", "cpu", "auto", "auto"]
    settings = [job.settings.model_copy(update={"device": device}) for device in devices]
    jobs = [preview_of(job.model_copy(update={"settings": each})) for each in settings]
    lines = [each.to_bytes() for each in (*jobs, job)]
    warmed = []
    monkeypatch.setattr(warmup, "warm_up_for", lambda preview: warmed.append(preview.settings.device))
    lifeline = SimpleNamespace(next_line=lambda: lines.pop(0), has_line=False)
    assert _wait_for_job(lifeline, cache) == job
    assert warmed == ["cpu", "auto"]
