"""Which published models may have generated a rollout, the most probable first."""

from __future__ import annotations

import os

import pytest

from daemon.training.job_builder import CANDIDATES, behaviour_candidates
from schemas.job import Job
from tests.faults.support.harness import InstantHarness, train


@pytest.fixture(scope="module")
def publications(tmp_path_factory):
    """Return five publications of a real daemon, ten minutes apart."""
    with InstantHarness(tmp_path_factory.mktemp("project")) as harness:
        harness.until_version(0)
        for k in range(1, 5):
            harness.clock.pass_s(600.0)
            harness.run_cycle(10 * k)
        return harness.ledger.publications()


@pytest.mark.parametrize("newest", range(5))
def test_the_newest_model_at_the_time_of_writing_comes_first(publications, newest):
    written_s = publications[newest].at_s + 1.0
    models = [publication.model for publication in publications]
    expected = models[max(0, newest + 1 - CANDIDATES) : newest + 1][::-1]
    assert behaviour_candidates(publications, written_s=written_s, policy_version=None) == tuple(expected)


def test_a_file_older_than_all_publications_has_the_first_model_as_candidate(publications):
    assert behaviour_candidates(publications, written_s=0.0, policy_version=None) == (publications[0].model,)


def test_the_version_that_the_engine_named_comes_before_the_newest(publications):
    found = behaviour_candidates(publications, written_s=publications[3].at_s, policy_version=1)
    assert found == tuple(publications[k].model for k in (1, 3, 2))


def test_a_job_names_the_candidates_of_each_rollout(tmp_path):
    jobs: list[Job] = []
    with InstantHarness(tmp_path) as harness:
        harness.launcher.answer = lambda job: jobs.append(job) or train(job)
        harness.until_version(0)
        harness.clock.pass_s(600.0)
        harness.run_cycle(1)
        harness.clock.pass_s(600.0)
        first, second = harness.ledger.publications()
        harness.write_rollouts(21)
        [path] = harness.paths.exports.glob("rollout_21_*")
        between_s = (first.at_s + second.at_s) / 2
        os.utime(path, (between_s, between_s))
        harness.write_rollouts(22)
        [path] = harness.paths.exports.glob("rollout_22_*")
        os.utime(path, (second.at_s + 1.0, second.at_s + 1.0))
        harness.until_version(2)
    models = f"{harness.paths.models}{os.sep}"
    candidates = {rollout.name.split("_")[1]: rollout.behaviours for rollout in jobs[-1].rollouts if rollout.is_new}
    assert candidates == {"21": (models + first.model,), "22": (models + second.model, models + first.model)}
