"""Results are written to three files, and the next start reads them."""

import csv
import io
import json

import pytest

from schemas.errors import ConfigError
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.results import COLUMNS, PipelineState, new_result, read_pipeline_state, write_results

CONFIG = MilestoneConfig.model_validate(
    {"env": "racing", "milestones": ({"id": "A", "max_steps": 5}, {"id": "B", "max_steps": 5})}
)
FAILED = new_result(CONFIG, "A", "failed", 'the expert raised KeyError: "x, y"')
DONE = new_result(CONFIG, "B", "completed", dagger_final_success_rate=0.75)


def test_state_is_read_as_it_was_written(tmp_path):
    assert read_pipeline_state(tmp_path) == PipelineState()
    state = PipelineState().with_result(DONE).with_result(FAILED)
    write_results(tmp_path / "out", state)
    assert read_pipeline_state(tmp_path / "out") == state
    assert [result.milestone_id for result in state.results] == ["A", "B"], "in the order of the config"
    assert state.completed_ids() == ("B",)


def test_newer_result_replaces_the_older_one():
    state = PipelineState().with_result(FAILED).with_result(new_result(CONFIG, "A", "completed"))
    assert [result.status for result in state.results] == ["completed"]


def test_csv_and_json_have_a_row_for_each_milestone(tmp_path):
    write_results(tmp_path, PipelineState(results=(FAILED, DONE)))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pipeline_results.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["reason"] == FAILED.reason
    assert (rows[0]["dagger_final_success_rate"], rows[1]["dagger_final_success_rate"]) == ("", "0.75")
    assert [r["index"] for r in json.loads((tmp_path / "pipeline_results.json").read_bytes())] == [0, 1]


def test_damaged_state_stops_the_run_and_is_kept(tmp_path):
    path = tmp_path / "pipeline_state.json"
    path.write_bytes(b'{"results": [')
    with pytest.raises(ConfigError, match="is damaged, or another program wrote it -> rename it"):
        read_pipeline_state(tmp_path)
    assert path.read_bytes() == b'{"results": ['
