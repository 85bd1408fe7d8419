"""Which milestones run, and when each can start."""

import pytest

from schemas.errors import ConfigError
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.results import PipelineState, new_result
from trainer.dagger.schedule import Selection, can_be_tried_again, can_start, make_schedule, require_possible_order

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


def chain(**starts):
    """Return a config; `starts` names for each milestone the one from whose end it starts."""
    milestones = [
        {"id": name, "max_steps": 9, "starting_state": None if before is None else f"{before}_completed.state"}
        for name, before in starts.items()
    ]
    return MilestoneConfig.model_validate({"env": "racing", "milestones": tuple(milestones)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (chain(A="A"), "A starts from A_completed.state, which is the state at its own end"),
        (chain(A="B", B="A"), "milestones wait for each other: A starts from the end of B starts from the end of A"),
        (chain(A=None, B="D", C="B", D="C"), "B starts from the end of D starts from the end of C starts from the end"),
        (
            chain(A="C", B="C", C="B"),
            "milestones wait for each other: C starts from the end of B starts from the end of C",
        ),
    ],
    ids=["its own end", "two", "three", "one before a circle"],
)
def test_milestones_that_wait_for_themselves_are_refused(config, message):
    with pytest.raises(ConfigError) as caught:
        require_possible_order(config, lambda name: False)
    assert message in str(caught.value)


def test_chains_and_circles_with_a_saved_state_are_possible():
    require_possible_order(chain(A=None, B="A", C="B", D="A"), lambda name: False)
    require_possible_order(chain(A="B", B="A"), lambda name: name == "B_completed.state")
    require_possible_order(chain(A="elsewhere"), lambda name: False)
    with pytest.raises(ConfigError, match="its own end"):
        require_possible_order(chain(A="A"), lambda name: True)


def test_a_wrong_setting_is_not_tried_again():
    assert can_be_tried_again("its process ended with exit code 7 -> see logs/A.log")
    assert can_be_tried_again("the environment's step() raised OSError: busy -> correct game.py [E_ENV]")
    assert not can_be_tried_again("env game:Game cannot be created -> correct its name [E_CONFIG]")
    assert not can_be_tried_again("the expert A.py does not exist -> write it [E_EXPERT_MISSING]")
