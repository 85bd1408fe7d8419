"""milestone_config.json is read as it is, or refused with one line."""

import json

import pytest

from schemas.errors import ConfigError
from trainer.dagger.messages import MilestoneResult, PipelineState
from trainer.dagger.milestones import read_config
from trainer.dagger.schedule import Selection, make_schedule, may_start

A = {"id": "A", "description": "first", "starting_state": None, "max_steps": 10}
B = {"id": "B", "starting_state": "milestone_states/A_completed.state", "max_steps": 10}


def config(tmp_path, *milestones, **more):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"env": "racing", "milestones": milestones, **more}))
    return read_config(path)


def test_unknown_keys_are_kept(tmp_path):
    read = config(tmp_path, {**A, "reward_hint": 3}, made_by="hand")
    assert read.milestones[0].model_dump()["reward_hint"] == 3
    assert read.model_dump()["made_by"] == "hand"
    assert config(tmp_path, A, B).milestones[1].state_name() == "A_completed.state"


@pytest.mark.parametrize(
    ("milestones", "says"),
    [
        ([A, A], "2 milestones have the id A"),
        ([A, {**A, "id": "a"}], "2 milestones have the id A"),
        ([], "milestones: Tuple should have at least 1 item"),
        ([{**A, "max_steps": 0}], "milestones[0].max_steps: Input should be greater than or equal to 1"),
        ([{**A, "id": "../x"}], "milestones[0].id: String should match pattern"),
        ([{"id": "A"}], "milestones[0].max_steps: Field required"),
    ],
)
def test_a_bad_config_is_one_line(tmp_path, milestones, says):
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, *milestones)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_json(tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        read_config(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"env": "rac')
    with pytest.raises(ConfigError, match="Invalid JSON"):
        read_config(tmp_path / "torn.json")


def result(name, status):
    return MilestoneResult(milestone_id=name, index=0, timestamp="2026-01-01T00:00:00+00:00", status=status)


STATES = {
    "nothing asked": (Selection(), ["B", "C"], [], ["A"]),
    "one alone": (Selection(only="C"), ["C"], [], []),
    "one alone, completed": (Selection(only="A"), [], [], ["A"]),
    "completed ones anew": (Selection(only="A", fresh=True), ["A"], [], []),
    "from one on": (Selection(resume_from="C"), ["C"], [], []),
    "without some": (Selection(skip=("A", "B")), ["C"], ["B"], ["A"]),
}


@pytest.mark.parametrize(("selection", "run", "skipped", "completed"), STATES.values(), ids=STATES)
def test_what_is_due(tmp_path, selection, run, skipped, completed):
    state = PipelineState(results=(result("A", "completed"), result("B", "failed")))
    plan = make_schedule(config(tmp_path, A, B, {**B, "id": "C"}), selection, state)
    assert (plan.run, plan.skipped, plan.completed) == (tuple(run), tuple(skipped), tuple(completed))


@pytest.mark.parametrize(
    ("selection", "flag"),
    [
        (Selection(only="X"), "--milestone X"),
        (Selection(resume_from="X"), "--resume-from X"),
        (Selection(skip=("A", "X")), "--skip-milestones X"),
    ],
)
def test_an_unknown_milestone_on_the_command_line(tmp_path, selection, flag):
    with pytest.raises(ConfigError, match=f"{flag}: there is no such milestone -> one of A, B"):
        make_schedule(config(tmp_path, A, B), selection, PipelineState())


def test_a_milestone_waits_for_its_start_state_only_while_that_can_come(tmp_path):
    first, second = config(tmp_path, A, B).milestones
    assert may_start(first, ["A", "B"], [], lambda _: False)
    assert not may_start(second, ["A", "B"], [], lambda _: False)
    assert may_start(second, ["A", "B"], [], lambda name: name == "A_completed.state")
    assert may_start(second, ["B"], ["A"], lambda _: False)
    assert may_start(second, ["B"], [], lambda _: False), "it starts, and fails with its reason"
