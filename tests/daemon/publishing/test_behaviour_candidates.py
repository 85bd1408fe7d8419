"""Which published models may have generated a rollout: the newest is always among them, whatever the clocks show."""

from __future__ import annotations

import datetime
import os

import pytest

from daemon.ledger.records import Publication, RolloutRow, UsedRollout
from daemon.publishing.behaviour_candidates import CandidateFinder, behaviour_candidates, publications_before
from schemas.job import Job
from schemas.storage.layout import time_stamp_of
from tests.faults.support.harness import InstantHarness, train

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
NOON_S = datetime.datetime(2026, 11, 26, 12, 0).astimezone().timestamp()  # local time, as in the names of files


def local_time(at_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_s).astimezone()


def published(*times_s: float) -> list[Publication]:
    """Return publications of the cycles 0, 1, ... at these times."""
    return [Publication(k, k, 1, f"cycle_{k:06d}/model_epoch_1.json", "", at_s) for k, at_s in enumerate(times_s)]


def five_minutes_apart(count: int) -> list[Publication]:
    return published(*(NOON_S + 300.0 * k for k in range(count)))


def versions(models: tuple[str, ...]) -> list[int]:
    return [int(model[6:12]) for model in models]


@pytest.mark.parametrize("newest", range(5))
def test_the_newest_model_at_the_time_of_writing_comes_first(newest):
    publications = five_minutes_apart(5)
    found = behaviour_candidates(publications, written_s=publications[newest].at_s + 1.0, policy_version=None)
    assert versions(found.models)[0] == newest
    assert sorted(versions(found.models)) == [0, 1, 2, 3, 4]
    assert sorted(versions(tuple(found.models[k] for k in found.outdated))) == list(range(newest))


@pytest.mark.parametrize("offset_s", [-30 * DAY_S, -8 * HOUR_S, -HOUR_S, -3.0, 3.0, HOUR_S, 8 * HOUR_S, 400 * DAY_S])
def test_the_newest_model_is_among_the_first_whatever_the_files_clock_shows(offset_s):
    publications = five_minutes_apart(40)
    now_s = publications[-1].at_s + 60.0
    found = behaviour_candidates(publications, written_s=now_s + offset_s, policy_version=None, first_seen_s=now_s)
    assert 39 in versions(found.models)[:3]
    assert found.models.index(publications[-1].model) not in found.outdated


@pytest.mark.parametrize("written_s", [0.0, -1e9, 1e11])
def test_impossible_times_do_not_hide_the_newest_model(written_s):
    found = behaviour_candidates(five_minutes_apart(3), written_s=written_s, policy_version=None, first_seen_s=NOON_S)
    assert versions(found.models)[:2].count(2) == 1


@pytest.mark.parametrize("newest", [21, 22, 23])
def test_after_the_clock_was_set_back_the_newest_model_comes_first(newest):
    """Versions 0 to 20 until 13:40, then the clock goes back an hour and three more are published."""
    times_s = [NOON_S + 300.0 * k for k in range(21)] + [NOON_S + 2400.0 + 300.0 * (k + 1) for k in range(3)]
    publications = published(*times_s)[: newest + 1]
    found = behaviour_candidates(publications, written_s=times_s[newest] + 60.0, policy_version=None)
    assert versions(found.models)[0] == newest
    before = behaviour_candidates(published(*times_s)[:9], written_s=times_s[8] + 60.0, policy_version=None)
    assert versions(before.models)[0] == 8


def test_the_time_stamp_in_the_name_counts_if_the_file_was_copied():
    """A copy has the time of copying, and the daemon sees it then; only the name has the time of recording."""
    publications = published(*(NOON_S + DAY_S * k for k in range(6)))
    recorded = local_time(publications[2].at_s + 60.0)
    name, now_s = f"rollout_7_{recorded:%Y%m%d_%H%M%S}.json", publications[-1].at_s + 60.0
    found = behaviour_candidates(publications, written_s=now_s, policy_version=None, first_seen_s=now_s, name=name)
    assert set(versions(found.models)[:2]) == {5, 2}
    assert sorted(versions(tuple(found.models[k] for k in found.outdated))) == [0, 1]


@pytest.mark.parametrize("zone_h", [-11, -5, 2, 5.5, 12.75])
def test_a_time_stamp_of_another_time_zone_changes_nothing_but_the_order(zone_h):
    publications = five_minutes_apart(5)
    now_s = publications[-1].at_s + 60.0
    local = local_time(now_s + zone_h * HOUR_S)
    name = f"rollout_7_{local:%Y%m%d_%H%M%S}.json"
    found = behaviour_candidates(publications, written_s=now_s, policy_version=None, first_seen_s=now_s, name=name)
    assert versions(found.models)[0] == 4
    assert len(found.outdated) == 4
    assert not found.is_older_than_models


def test_the_version_that_the_engine_named_comes_first_and_may_be_outdated():
    publications = five_minutes_apart(5)
    found = behaviour_candidates(publications, written_s=publications[3].at_s, policy_version=1)
    assert versions(found.models)[:3] == [1, 3, 4]
    assert 0 in found.outdated


def test_a_model_that_was_published_again_is_not_outdated():
    publications = five_minutes_apart(4)
    again = Publication(1, 1, 1, publications[1].model, "", publications[-1].at_s + 300.0)
    found = behaviour_candidates([*publications, again], written_s=again.at_s + 60.0, policy_version=None)
    assert versions(found.models) == [1, 3, 2, 0]
    assert found.outdated == (1, 2, 3)


def test_rollouts_from_before_the_first_model_are_marked():
    publications = five_minutes_apart(3)
    assert behaviour_candidates(publications, written_s=NOON_S - HOUR_S, policy_version=None).is_older_than_models
    assert not behaviour_candidates(publications, written_s=NOON_S + 1.0, policy_version=None).is_older_than_models
    old = f"rollout_1_{local_time(NOON_S - 3 * DAY_S):%Y%m%d_%H%M%S}.json"
    copied = behaviour_candidates(publications, written_s=NOON_S + 900.0, policy_version=None, name=old)
    assert copied.is_older_than_models


def test_no_model_that_was_published_after_the_claim_is_a_candidate():
    publications = five_minutes_apart(6)
    assert publications_before(publications, None) == publications
    assert publications_before(publications, 3) == publications[:3]
    assert publications_before(publications[:3] + publications[4:], 3) == publications[:3], "cycle 3 failed"


def used(written_s: float, *, cycle_id: int | None = None) -> UsedRollout:
    return UsedRollout(RolloutRow("", "rollout_1.json", 1, 0, 0.0, None, written_s), cycle_id, NOON_S + 1500.0)


def test_a_known_offset_of_file_times_is_taken_into_account():
    finder = CandidateFinder(five_minutes_apart(6), clock_offset_s=-8 * HOUR_S)
    found = finder.candidates_of(used(NOON_S + 1499.0 - 8 * HOUR_S), limit=4)
    assert versions(found.models) == [4, 5, 3, 2]
    assert [versions(found.models)[k] for k in found.outdated] == [3, 2]


def test_without_publications_nothing_is_a_candidate():
    assert behaviour_candidates([], written_s=0.0, policy_version=None).models == ()


@pytest.mark.parametrize("name", ["rollout_1.json", "rollout_1_20261341_250000.json", "rollout_1_2026_1126.json"])
def test_names_without_a_time_have_no_time_stamp(name):
    assert time_stamp_of(name) is None


def test_time_stamps_are_read_as_local_time():
    assert time_stamp_of("rollout_3_20261126_120000.json") == NOON_S
    assert time_stamp_of("rollout_3_20261126_120000_client2.json") == NOON_S


@pytest.mark.parametrize("offset_s", [-9 * HOUR_S, 0.0, 9 * HOUR_S])
def test_a_job_names_the_newest_model_of_each_new_rollout(tmp_path, offset_s):
    jobs: list[Job] = []
    with InstantHarness(tmp_path) as harness:
        harness.launcher.answer = lambda job: jobs.append(job) or train(job)
        harness.until_version(0)
        for cycle in (10, 20):
            harness.clock.pass_s(600.0)
            harness.run_cycle(cycle)
        harness.clock.pass_s(600.0)
        newest = harness.ledger.publications()[-1]
        for number in (31, 32):
            harness.write_rollouts(number)
            [path] = harness.paths.exports.glob(f"rollout_{number}_*")
            written_s = harness.clock.wall + offset_s
            os.utime(path, (written_s, written_s))
        harness.until_version(3)
    model = f"{harness.paths.models}{os.sep}{newest.model}"
    new = [rollout for rollout in jobs[-1].rollouts if rollout.is_new]
    assert len(new) == 2
    for rollout in new:
        assert model in rollout.behaviours[:3]
        assert rollout.behaviours.index(model) not in rollout.outdated
        assert len(rollout.behaviours) == 3, "version 0 and the others that still exist are candidates too"
