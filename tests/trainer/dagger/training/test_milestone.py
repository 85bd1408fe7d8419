"""Whole milestones in environments with one trouble each: they work, or fail with the reason and the user's line."""

import json

import pytest

from tests.fakes.walk import RIGHT, job_for
from trainer.dagger.messages import Message
from trainer.dagger.training.milestone import run_milestone


def train(folder, env="Walk", **options):
    """Run a milestone in this process; return its result and the lines for the user."""
    events = []
    with (folder / "log").open("ab") as log:
        result = run_milestone(job_for(folder, env, **options), events.append, log)
    return result, [event.text for event in events if isinstance(event, Message)]


WORKS = {
    "a dict of flags": ("Flags", []),
    "a dict of objects": ("Records", []),
    "states in files": ("PathState", []),
    "a small picture": ("Grid", ["DOOR: observations: 7 x 7 x 3, too small for convolutions, so they are 147 numbers"]),
    "channels first": (
        "ChannelFirst",
        ["DOOR: observations: images of 36 x 40 with 4 channels, given as 4 x 36 x 40"],
    ),
    "a dict with a text": ("Mission", ["DOOR: observations: a Dict space, without mission, as 151 numbers"]),
    "no states": ("NoState", []),
    "an exception in close()": ("CannotClose", []),
    "wrappers": ("wrapped", []),
}


@pytest.mark.parametrize(("env", "lines"), WORKS.values(), ids=WORKS)
def test_environments_of_all_kinds_are_trained(tmp_path, env, lines):
    result, shown = train(tmp_path, env)
    assert (result.status, result.reason, shown) == ("completed", "", lines)
    assert result.expert_success_rate == 1.0
    assert 4 <= result.expert_mean_steps <= 6, "not after one step"


def test_a_milestone_that_starts_from_a_file_of_the_environment_is_trained(tmp_path):
    train(tmp_path, "PathState")
    assert (tmp_path / "states" / "DOOR_completed.state").read_text() == "6"
    result, [line] = train(tmp_path, "PathState", milestone="GOAL", completed=("DOOR",))
    assert result.status == "completed"
    assert line.startswith(
        "GOAL: load_state() does not return the observation, so that each episode starts with one step"
    )


def test_an_environment_without_render_has_no_videos(tmp_path):
    result, shown = train(tmp_path, "NoRender", video=True)
    assert result.status == "completed"
    assert shown == ["DOOR: no videos are recorded: the environment has no render()"]
    assert list((tmp_path / "out").rglob("*.mp4")) == []


COUNTER = "calls = [0]\ndef run(state):\n    calls[0] += 1\n    return 'LEFT' if calls[0] % 3 == 0 else 'RIGHT'\n"
PLAN = "plan = ['RIGHT'] * 8\ndef run(state):\n    return plan.pop(0)\n"
FAILS = {
    "other names": ("OtherNames", {}, 'below 0.60: info["milestones"] had only door, goal -> correct this'),
    "nothing reported": ("Silent", {}, "its steps have no info[\"milestones\"] -> correct this"),
    "how far it is": ("Unclear", {}, "for 'DOOR', which is neither true nor false -> let it"),
    "flags that stay": ("Remembered", {}, "DOOR is reached in its start state: the environment reports it after the"),
    "an exception": (
        "Raises", {}, "the environment's step() raised ValueError: matmul: Input operand 1 has a mismatch in its core",
    ),
    "the line of the exception": ("Raises", {}, "(walk.py, line "),
    "the remedy": ("Raises", {}, "-> correct walk.py; the milestone's log has the traceback [E_ENV]"),
    "sys.exit": ("Exits", {}, "the environment's step() raised SystemExit: 0 (walk.py, line "),
    "an expert with a plan": ("Walk", {"DOOR": PLAN}, "run() raised IndexError: pop from empty list (DOOR.py, line 3)"),
    "another state": ("Walk", {"DOOR": "def run(state):\n    return state['x']\n"}, "run() raised IndexError"),
}  # fmt: skip


@pytest.mark.parametrize(("env", "experts", "reason"), FAILS.values(), ids=FAILS)
def test_a_milestone_fails_with_its_reason(tmp_path, env, experts, reason):
    result, shown = train(tmp_path, env, experts=experts)
    assert result.status == "failed"
    assert reason in result.reason
    assert "report it" not in result.reason
    assert "\n" not in result.reason
    if experts.get("DOOR") == PLAN:
        assert shown[0].startswith(
            "DOOR: the expert remembers earlier calls: asked again about a state, run() raised Index"
        )


def test_a_milestone_that_is_reached_in_its_start_state_is_refused(tmp_path):
    train(tmp_path, "StuckReached")
    result, _ = train(tmp_path, "StuckReached", milestone="GOAL", completed=("DOOR",))
    assert "GOAL is reached in its start state: the environment reports it after the first step" in result.reason
    assert result.reason.endswith("or let reset() and load_state() clear what was reached before [E_STATE]")


def test_an_environment_without_states_cannot_start_from_one(tmp_path):
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "DOOR_completed.state").write_bytes(b"state")
    result, _ = train(tmp_path, "NoState", milestone="GOAL", completed=("DOOR",))
    assert "does not have save_state() and load_state(), but GOAL starts from DOOR_completed.state" in result.reason


def test_an_expert_that_counts_its_calls_is_reported_and_trained(tmp_path):
    result, [line] = train(tmp_path, experts={"DOOR": COUNTER}, min_success_rate=0.1)
    assert line.startswith(
        "DOOR: the expert remembers earlier calls, or draws its own random numbers: asked again about "
    )
    assert result.status == "completed"
    details = json.loads((tmp_path / "out" / "milestone_details" / "DOOR.json").read_text())
    assert details["expert"]["note"] in line


def test_an_expert_in_utf_16_is_read(tmp_path):
    """Windows PowerShell's redirection writes it."""
    job = job_for(tmp_path)
    (tmp_path / "experts" / "DOOR.py").write_text(RIGHT, encoding="utf-16")
    with (tmp_path / "log").open("ab") as log:
        result = run_milestone(job, lambda event: None, log)
    assert result.status == "completed", result.reason


def test_a_milestone_ends_early_if_its_policy_is_as_good_as_its_expert(tmp_path):
    result, shown = train(tmp_path, dagger_iterations=4, patience=2, train_steps_per_iter=60, learning_rate=0.01)
    details = json.loads((tmp_path / "out" / "milestone_details" / "DOOR.json").read_text())
    rounds = details["rounds"]
    assert [r["success_rate"] for r in rounds] == [1.0, 1.0]
    reason = "because in the last 2 its policy was as good as its expert (--patience)"
    assert shown == [f"DOOR: ends after 2 of 4 rounds, {reason}"]
    assert result.dagger_final_success_rate == 1.0
