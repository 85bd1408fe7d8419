"""Which milestones run, and when each can start."""

import pytest

from schemas.errors import ConfigError
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.results import PipelineState, new_result
from trainer.dagger.schedule import Selection, can_start, make_schedule

A = {"id": "A", "max_steps": 10}
B = {"id": "B", "starting_state": "milestone_states/A_completed.state", "max_steps": 10}
CONFIG = MilestoneConfig.model_validate({"env": "racing", "milestones": (A, B, {**B, "id": "C"})})
STATE = PipelineState(results=(new_result(CONFIG, "A", "completed"), new_result(CONFIG, "B", "failed")))

SELECTIONS = {
    "everything": (Selection(), ["B", "C"], [], ["A"]),
    "only one": (Selection(only="C"), ["C"], [], []),
    "only a completed one": (Selection(only="A"), [], [], ["A"]),
    "a completed one again": (Selection(only="A", fresh=True), ["A"], [], []),
    "from one on": (Selection(resume_from="C"), ["C"], [], []),
    "without some": (Selection(skip=("A", "B")), ["C"], ["B"], ["A"]),
}


@pytest.mark.parametrize(("selection", "to_run", "skipped", "completed"), SELECTIONS.values(), ids=SELECTIONS)
def test_selection_decides_what_runs(selection, to_run, skipped, completed):
    schedule = make_schedule(CONFIG, selection, STATE)
    assert schedule.to_run == tuple(to_run)
    assert schedule.skipped == tuple(skipped)
    assert schedule.completed_before == tuple(completed)


@pytest.mark.parametrize(
    ("selection", "flag"),
    [
        (Selection(only="X"), "--milestone X"),
        (Selection(resume_from="X"), "--resume-from X"),
        (Selection(skip=("A", "X")), "--skip-milestones X"),
    ],
)
def test_unknown_id_names_its_flag_and_the_known_ids(selection, flag):
    with pytest.raises(ConfigError, match=f"{flag}: the config does not have this milestone -> its ids are A, B, C"):
        make_schedule(CONFIG, selection, PipelineState())


def test_milestone_waits_for_its_start_state_only_if_it_can_still_be_made():
    first, second, _ = CONFIG.milestones
    assert can_start(first, ["A", "B"], [], lambda _: False)
    assert not can_start(second, ["A", "B"], [], lambda _: False)
    assert can_start(second, ["A", "B"], [], lambda name: name == "A_completed.state")
    assert can_start(second, ["B"], ["A"], lambda _: False)
    assert can_start(second, ["B"], [], lambda _: False), "it starts, and fails with the reason"
