"""A failed training finds the rollouts or the parent that caused it, and names nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import ConfigError, HotlapError, ModelError, RolloutError
from schemas.job import ExitCode, Job, RolloutInput
from schemas.rollout.cache import load_rollout, store_rollout
from schemas.settings.models import DaemonSettings, TrainerSettings
from schemas.storage.files import sha256_of
from tests.helpers import make_rollout
from tests.trainer.toy import job_with_trained_parent
from trainer.checkpoints.checkpoint import document_bytes, load_document
from trainer.checkpoints.parent import open_parent
from trainer.checkpoints.policy import load_policy
from trainer.common.exit_codes import ExplainedError, failure_of
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.rollouts.loading import LoadedRollout
from trainer.worker import train as train_module
from trainer.worker.diagnosis import ALL_S, MOST_TRIALS, explained, search_limit_s
from trainer.worker.jobs import run_job
from trainer.worker.suspects import far_values

FAILURE = ModelError("the model does not compute the outputs of its probe", code="E_PROBE")


def entry(index: int, *, is_new: bool = True) -> RolloutInput:
    return RolloutInput(name=f"rollout_{index}.json", sha256=f"{index:064x}", source="", cache="", is_new=is_new)


def job_of(folder: Path, count: int, *, old: int = 0, parent: str | None = None) -> Job:
    rollouts = (*(entry(i) for i in range(count)), *(entry(100 + i, is_new=False) for i in range(old)))
    return Job(
        kind="train",
        policy_version=2,
        output=str(folder),
        contract=make_rollout().contract,
        hidden_sizes=(8, 8),
        settings=TrainerSettings(),
        rollouts=rollouts,
        parent=parent,
    )


class CountingTrain:
    """A training that fails if `fails` returns true for the names in its job."""

    def __init__(self, fails: Callable[[set[str]], bool]) -> None:
        self.fails, self.count = fails, 0

    def __call__(self, job: Job, reporter: object, cache: object) -> None:
        self.count += 1
        assert Path(job.output).is_dir()
        if self.fails({rollout.name for rollout in job.rollouts}):
            raise FAILURE


def diagnose(job: Job, train: CountingTrain, error: Exception = FAILURE) -> list[str] | Exception:
    """Return the names of the suspects, or the error itself if nothing was found."""
    found = explained(error, job, MemoryReporter(), train, seconds=0.0)
    assert list(Path(job.output).iterdir()) == [], "trials leave nothing"
    return sorted(s.name for s in found.suspects) if isinstance(found, ExplainedError) else found


@pytest.mark.fault(73)
@pytest.mark.parametrize("bad", [(0,), (6,), (9,), (103,), (2, 7)])
def test_a_few_rollouts_are_found_by_halves(tmp_path, bad):
    names = {f"rollout_{index}.json" for index in bad}
    train = CountingTrain(lambda given: bool(given & names))
    assert diagnose(job_of(tmp_path, 10, old=5), train) == sorted(names)
    assert train.count <= MOST_TRIALS


@pytest.mark.parametrize("count", [1, 2, 10])
def test_if_every_training_fails_the_error_is_reported_as_it_is(tmp_path, count):
    train = CountingTrain(lambda given: True)
    assert diagnose(job_of(tmp_path, count), train) is FAILURE
    assert train.count <= MOST_TRIALS


def test_if_only_all_rollouts_together_fail_none_is_named(tmp_path):
    assert diagnose(job_of(tmp_path, 8), CountingTrain(lambda given: len(given) > 4)) is FAILURE


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a setting"),
        RolloutError("no experience has a next state"),
        MemoryError(),
        OSError(28, "No space left on device"),
        OSError(5, "Input/output error"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_rollouts_do_not_cause_are_not_searched_for(tmp_path, error):
    train = CountingTrain(lambda given: False)
    assert diagnose(job_of(tmp_path, 4), train, error) is error
    assert train.count == 0


@pytest.mark.parametrize("seconds", [0.1, 60.0, 1000.0, 2900.0, 7000.0])
def test_the_search_ends_before_the_time_limit_of_a_training(seconds):
    limit_s = search_limit_s(seconds)
    last_ends_s = seconds + max(limit_s + seconds, 0.0)
    assert last_ends_s <= max(ALL_S, seconds) < DaemonSettings().training_timeout_s
    assert limit_s >= min(60.0, ALL_S - 2 * seconds)


def test_a_search_that_fails_itself_reports_the_first_error(tmp_path):
    job = job_of(tmp_path, 4)

    def no_memory(given: set[str]) -> bool:
        raise MemoryError

    assert diagnose(job, CountingTrain(no_memory)) is FAILURE


def loaded(*changes: Callable[[object], None]) -> list[LoadedRollout]:
    found = []
    for index, change in enumerate(changes):
        rollout = make_rollout(n=64, seed=index)
        rollout = dataclasses.replace(
            rollout, final_observations=np.zeros((1, 15), np.float32), final_agents=np.zeros(1, np.int32)
        )
        change(rollout)
        found.append(LoadedRollout(entry(index), rollout))
    return found


def nothing(rollout: object) -> None:
    """Leave a rollout as it is."""


@pytest.mark.fault(73)
@pytest.mark.parametrize("others", [1, 5])
@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("rewards", "a reward is 9e+11, but is usually between "),
        ("observations", "observation 0 is 9e+11, "),
        ("final_observations", "observation 0 is 9e+11, "),
        ("actions", "the action steer is 9e+11, "),
        ("log_probs", "a log_prob is 9e+11, "),
    ],
)
def test_the_rollout_with_a_far_value_is_the_first_and_the_column_is_named(column, words, others):
    def spoil(rollout) -> None:
        getattr(rollout, column).reshape(-1)[0] = 9e11

    far = far_values(loaded(*[nothing] * others, spoil))
    assert far[0].name == f"rollout_{others}.json"
    assert far[0].in_words().startswith(words)
    assert far[0].ratio > 1e6
    assert all(other.ratio < 20.0 for other in far[1:])


def test_missing_log_probs_and_constant_columns_are_not_far():
    def without(rollout) -> None:
        rollout.log_probs[:] = np.nan
        rollout.rewards[:] = 0.0

    assert all(far.ratio < 20.0 for far in far_values(loaded(without, without, without)))


@pytest.fixture
def trained(tmp_path):
    """Return a job with a trained parent and three new rollouts."""
    return job_with_trained_parent(tmp_path)


def fail_for(monkeypatch, bad: Collection[str]) -> None:
    """Let the preparation of a training set raise an exception if one of these rollouts is in it."""
    real = train_module.in_policy_units

    def prepare(loaded, job, candidates):
        if bad & {item.entry.sha256 for item in loaded}:
            raise IndexError("index 7 is out of bounds")
        return real(loaded, job, candidates)

    monkeypatch.setattr(train_module, "in_policy_units", prepare)


@pytest.mark.fault(73)
def test_a_real_training_names_the_rollout_and_works_without_it(trained, monkeypatch):
    bad = trained.rollouts[1]
    fail_for(monkeypatch, {bad.sha256})
    with pytest.raises(ExplainedError) as caught:
        run_job(trained, MemoryReporter())
    code, failure = failure_of(caught.value)
    assert (code, failure.code, failure.blames_parent) == (ExitCode.BUG, "E_BUG", False)
    assert [s.sha256 for s in failure.suspects] == [bad.sha256]
    assert failure.message.startswith(f"{bad.name}: training fails with it and works without it; IndexError: ")
    assert failure.message.endswith("[E_BUG]")
    assert list(Path(trained.output).iterdir()) == []
    rest = tuple(r for r in trained.rollouts if r is not bad)
    assert run_job(trained.model_copy(update={"rollouts": rest}), MemoryReporter()).epoch


def with_parent(job: Job, change: Callable[[dict], None]) -> Job:
    """Return the job with a changed checkpoint as its parent."""
    path = Path(job.parent).with_name("changed.pt")
    document = load_document(Path(job.parent).read_bytes())
    change(document)
    path.write_bytes(document_bytes(document))
    return job.model_copy(update={"parent": str(path), "parent_sha256": sha256_of(path.read_bytes())})


@pytest.mark.fault(76)
@pytest.mark.parametrize("damage", ["bytes", "missing", "normaliser", "returns"])
def test_a_parent_that_cannot_be_continued_from_is_blamed(trained, damage):
    job = trained
    if damage == "missing":
        job = job.model_copy(update={"parent": f"{job.parent}.gone"})
    elif damage == "bytes":
        Path(job.parent).write_bytes(Path(job.parent).read_bytes()[:-100])
    else:
        job = with_parent(job, ruin_normaliser if damage == "normaliser" else ruin_returns)
    with pytest.raises(ExplainedError) as caught:
        run_job(job, MemoryReporter())
    failure = failure_of(caught.value)[1]
    assert failure.blames_parent
    assert failure.suspects == ()


def ruin_normaliser(document: dict) -> None:
    document["normalisers"]["observations"]["var"][:] = torch.nan


def ruin_returns(document: dict) -> None:
    document["normalisers"]["returns"]["std"] = 0.0


def ruin_weights(document: dict) -> None:
    for stack in document["stacks"].values():
        for weight, _ in stack:
            weight.mul_(1e30)


@pytest.mark.fault(76)
def test_a_parent_whose_weights_make_every_training_fail_is_blamed_and_a_far_value_is_not(trained, tmp_path):
    strange = load_rollout(Path(trained.rollouts[0].cache))
    strange = dataclasses.replace(strange, rewards=strange.rewards * 1e6)
    path = tmp_path / "strange.npz"
    store_rollout(path, strange)
    known = {"name": "strange", "sha256": sha256_of(path.read_bytes()), "cache": str(path)}
    job = trained.model_copy(update={"rollouts": (*trained.rollouts, trained.rollouts[0].model_copy(update=known))})
    with pytest.raises(ExplainedError) as caught:
        run_job(with_parent(job, ruin_weights), MemoryReporter())
    failure = failure_of(caught.value)[1]
    assert failure.blames_parent
    assert failure.suspects == ()


@pytest.mark.fault(76)
def test_an_optimizer_state_that_is_not_finite_starts_from_scratch(trained):
    def ruin(document: dict) -> None:
        for state in document["optimizer_state_dict"]["state"].values():
            state["exp_avg"][:] = torch.nan

    reporter = MemoryReporter()
    job = with_parent(trained, ruin)
    assert open_parent(job, Notices(reporter), PrefetchCache()).optimizer_state == {}
    assert reporter.codes() == ["W_OPTIMIZER"]
    assert run_job(job, MemoryReporter()).epoch


def test_fresh_statistics_keep_the_policy_and_forget_the_rest(trained):
    job = trained.model_copy(update={"fresh_statistics": True})
    parent = open_parent(job, Notices(MemoryReporter()), PrefetchCache())
    observations = np.random.default_rng(0).normal(size=(64, job.contract.observation_size)).astype(np.float32)
    policy = load_policy(job.parent)
    with torch.no_grad():
        outputs = parent.network(parent.normalisers.observations(observations))[0]
        values = parent.network.values(parent.normalisers.observations(observations))
    mean = np.tanh(outputs.numpy())
    assert np.abs(mean - policy.mean(observations)).max() < 1e-4
    assert not values.any()
    assert parent.optimizer_state == {}
    assert parent.normalisers.observations.count == 0
    assert run_job(job, MemoryReporter()).epoch


def test_an_error_that_no_trial_explains_is_raised_unchanged(trained, monkeypatch):
    def fail(*arguments: object) -> None:
        raise HotlapError("no epoch can be used", code="E_NO_MODEL")

    monkeypatch.setattr(train_module, "select_and_export", fail)
    with pytest.raises(HotlapError, match="no epoch can be used") as caught:
        run_job(trained, MemoryReporter())
    assert caught.value.code == "E_NO_MODEL"
