"""What the daemon's jobs take from the settings."""

from __future__ import annotations

import pytest

from daemon.training import job_builder
from daemon.training.job_builder import expected_job, rollout_inputs
from schemas.settings.mirror import MirrorSettings
from schemas.settings.models import AgentSettings, Settings
from tests.faults.support.harness import InstantHarness
from tests.helpers import open_context


@pytest.mark.parametrize("mirror", [MirrorSettings(action_signs=("steer",)), None], ids=["set", "not set"])
def test_a_job_carries_the_mirror_of_the_settings(tmp_path, mirror):
    agent = AgentSettings() if mirror is None else AgentSettings(mirror=mirror)
    context = open_context(tmp_path, Settings(agent=agent))
    assert expected_job(context, ()).mirror == mirror
    context.ledger.close()


def test_a_preview_has_the_number_of_the_cycle_that_is_claimed_next(tmp_path):
    with InstantHarness(tmp_path) as harness:
        harness.run_cycle(10)
        expected = expected_job(harness.context, ())
        harness.run_cycle(20)
        assert expected.policy_version == harness.runner.cycle.policy_version == 2


def test_a_job_names_the_newest_of_many_earlier_rollouts(tmp_path, monkeypatch):
    monkeypatch.setattr(job_builder, "MAX_OLD_ROLLOUTS", 2)
    with InstantHarness(tmp_path) as harness:
        for number in (10, 20, 30):
            harness.run_cycle(number)
        inputs = rollout_inputs(harness.context, harness.runner.cycle.id)
    assert [(int(entry.name.split("_")[1]), entry.is_new) for entry in inputs] == [
        (30, True),
        (31, True),
        (20, False),
        (21, False),
    ]
