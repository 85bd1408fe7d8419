"""What decides a milestone's result is the same for progress that an earlier version of Hotlap saved."""

import hashlib

import orjson

from tests.fakes.walk import Walk, job_for
from trainer.dagger.actions import read_action_spec
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.inputs import changes_since, inputs_of
from trainer.dagger.messages import MilestoneJob
from trainer.envs.observations import read_observation_spec


def env():
    walk = Walk()
    return MilestoneEnv(walk, read_observation_spec(walk), read_action_spec(walk))


def test_fingerprint_is_that_of_versions_without_patience_retries_and_timeouts(tmp_path):
    job = MilestoneJob.from_bytes(job_for(tmp_path).to_bytes())
    settings = job.settings.model_dump(mode="json")
    del settings["patience"]
    document = {
        "format": "hotlap.dagger_progress/2",
        "milestone": {"id": "DOOR", "description": "", "starting_state": None, "max_steps": 30},
        "env": "tests.fakes.walk:Walk",
        "env_options": {},
        "settings": settings,
        "expert": hashlib.sha256(b"expert").hexdigest(),
        "start": None,
    }
    expected = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
    assert inputs_of(job, job.config.milestones[0], b"expert", None, env()).fingerprint == expected
    patient = job_for(tmp_path, patience=2)
    assert inputs_of(patient, job.config.milestones[0], b"expert", None, env()).fingerprint != expected


def test_a_completed_milestone_tells_what_changed_since(tmp_path):
    job = job_for(tmp_path)
    folder = tmp_path / "milestone_details"
    folder.mkdir()
    settings = {**job.settings.model_dump(mode="json"), "batch_size": 8}
    details = {"settings": settings, "env": "another", "env_options": {}}
    (folder / "DOOR.json").write_bytes(orjson.dumps(details))
    changes = changes_since(tmp_path, "DOOR", job.config, job.settings)
    assert changes == "--batch-size 64 instead of 8, env in the config"
    (folder / "DOOR.json").write_bytes(b"torn")
    assert changes_since(tmp_path, "DOOR", job.config, job.settings) == ""
