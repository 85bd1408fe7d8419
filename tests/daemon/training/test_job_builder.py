"""What the daemon's jobs take from the settings."""

from __future__ import annotations

import pytest

from daemon.training.job_builder import expected_job
from schemas.settings.mirror import MirrorSettings
from schemas.settings.models import AgentSettings, Settings
from tests.helpers import open_context


@pytest.mark.parametrize("mirror", [MirrorSettings(action_signs=("steer",)), None], ids=["set", "not set"])
def test_a_job_carries_the_mirror_of_the_settings(tmp_path, mirror):
    agent = AgentSettings() if mirror is None else AgentSettings(mirror=mirror)
    context = open_context(tmp_path, Settings(agent=agent))
    assert expected_job(context, ()).mirror == mirror
    context.ledger.close()
