"""`hotlap conformance`: a right client passes, and each seeded mistake is named under the contract's heading."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from daemon.conformance.models import random_model
from daemon.conformance.rollout_checks import LOG_PROB_TOLERANCE, examine, log_probs_of, repeats
from daemon.conformance.suite import conformance
from daemon.errors import DaemonError, Exit
from schemas.contract import PolicyContract
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.rollout import Rollout
from schemas.rollout.v2 import rollout_to_v2
from schemas.settings.models import AgentSettings
from tests.helpers import make_rollout

AGENT = AgentSettings(
    observation_size=3, actions=("turn", "push"), action_low=(-1.0, 0.0), action_high=(1.0, 1.0), hidden_sizes=(8, 8)
)
CLIENT = Path(__file__).with_name("small_client.py")
ROOT = Path(__file__).parents[2]


def run(*mistakes: str, monkeypatch: pytest.MonkeyPatch, timeout_s: float = 2.0) -> tuple[Exit, list[str]]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lines: list[str] = []
    command = [sys.executable, str(CLIENT), "{project}", *mistakes]
    code = conformance(command, AGENT, timeout_s=timeout_s, settle_s=0.2, show=lines.append)
    return code, lines


@pytest.mark.torch  # the small client imports from trainer
def test_a_right_client_passes(monkeypatch):
    code, lines = run(monkeypatch=monkeypatch, timeout_s=20.0)
    assert code == Exit.DONE, lines
    assert [line[:4] for line in lines] == ["ok  "] * 11 + ["no m"]


@pytest.mark.slow
@pytest.mark.torch  # the small client imports from trainer
@pytest.mark.parametrize(
    ("mistakes", "named"),
    [
        (
            ("ignores the probe", "waits while parked", "reuses names", "holds the pointer"),
            [
                "[Model JSON] the client runs a model that does not compute its probe: keep the old one",
                "[Write the loop] no rollout within 2 s while the daemon is parked",
                "[The folders] a rollout was changed, or its name was used again",
                "[The folders] the client keeps best_model_path.txt open",
            ],
        ),
        (
            ("never reloads", "writes in place", "needs the pointer"),
            [
                "but none with model 1: read the pointer file again",
                "[The folders] a rollout is written in place",
            ],
        ),
        (
            ("needs the pointer",),
            ["[Write the loop] a pointer file that cannot be read: the client ended by itself with exit code 1"],
        ),
    ],
)
def test_the_mistakes_of_a_client_are_named(mistakes, named, monkeypatch):
    code, lines = run(*mistakes, monkeypatch=monkeypatch, timeout_s=1.0 if "never reloads" in mistakes else 2.0)
    text = "\n".join(lines)
    assert code == Exit.CYCLE_FAILED
    assert [name for name in named if name not in text] == [], text


def test_a_command_must_say_where_its_folder_is_used():
    with pytest.raises(DaemonError, match=r"does not contain \{project\}"):
        conformance(["./game"], AGENT, timeout_s=1.0, show=print)


def test_a_program_that_does_not_exist_is_named():
    with pytest.raises(DaemonError, match=r"no-such-game could not be started.*full path"):
        conformance(["no-such-game", "{project}"], AGENT, timeout_s=1.0, show=print)


# --- one rollout --------------------------------------------------------------------------------------

RULES = ReadingRules()
MODELS = [random_model(make_rollout().contract, (8, 8), version) for version in range(3)]


def right(version: int = 2) -> Rollout:
    """Return a rollout as a right client writes it with a model."""
    rollout, model = make_rollout(n=128), MODELS[version]
    rng = np.random.default_rng(0)
    space = rollout.contract.action_space
    drawn = rng.normal(model.mean(rollout.observations), np.exp(model.action_log_std))
    rollout = dataclasses.replace(rollout, actions=np.clip(drawn, space.low, space.high).astype(np.float32))
    log_probs = log_probs_of(rollout, model)[0].astype(np.float32)
    return dataclasses.replace(rollout, log_probs=log_probs, policy_version=version, noise_std=1.0)


def named(rollout: Rollout) -> list[str]:
    found = examine("rollout_0.json", rollout_to_v2(rollout, rollout_id="r", base64_columns=True), RULES, MODELS)
    return [mistake.line() for mistake in found.mistakes]


@pytest.mark.parametrize("version", range(3))
def test_the_model_of_a_rollout_is_found(version):
    data = rollout_to_v2(right(version), rollout_id="r", base64_columns=True)
    found = examine("rollout_0.json", data, RULES, MODELS)
    assert (found.version, found.mistakes) == (version, ())


def test_wrong_log_probs_are_named():
    rollout = right()
    assert "fit no published model" in named(dataclasses.replace(rollout, log_probs=rollout.log_probs + 0.01))[0]
    assert named(dataclasses.replace(rollout, log_probs=rollout.log_probs + 0.5 * LOG_PROB_TOLERANCE)) == []
    unknown = np.full_like(rollout.log_probs, np.nan)
    assert "no step has a `log_prob`" in named(dataclasses.replace(rollout, log_probs=unknown))[0]


def test_the_log_prob_of_the_action_before_clamping_is_named():
    rollout = right()
    space = rollout.contract.action_space
    clamped = ((rollout.actions <= np.array(space.low)) | (rollout.actions >= np.array(space.high))).any(axis=1)
    assert 0.1 < clamped.mean() < 0.95
    log_probs = np.where(clamped, rollout.log_probs - 0.7, rollout.log_probs).astype(np.float32)
    assert named(dataclasses.replace(rollout, log_probs=log_probs)) == [
        "[Model JSON] `log_prob` is not that of the clamped action: it only fits if nothing was clamped"
    ]


def test_other_mistakes_in_a_rollout_are_named():
    rollout = right()
    assert "names policy_version 7, but" in named(dataclasses.replace(rollout, policy_version=7))[0]
    actions = rollout.actions.copy()
    actions[0, 1] = 1.5
    assert "[Model JSON] 1 actions `throttle` are outside" in named(dataclasses.replace(rollout, actions=actions))[0]
    rewards = rollout.rewards.copy()
    rewards[3] = np.nan
    assert "1 steps have nan in reward" in named(dataclasses.replace(rollout, rewards=rewards))[0]
    assert "the daemon rejects a rollout" in examine("r", b"{}", RULES, MODELS).mistakes[0].text


def test_a_buffer_that_is_not_emptied_is_named():
    rollout = right()
    assert "repeats 100%" in repeats(rollout, rollout)[0].line()
    assert repeats(rollout, dataclasses.replace(rollout, observations=rollout.observations + 1)) == []


def test_a_model_of_more_observations_is_not_compared():
    larger = PolicyContract(observation_size=16, action_space=MODELS[0].contract.action_space)
    data = rollout_to_v2(right(), rollout_id="r", base64_columns=True)
    assert examine("r", data, RULES, [random_model(larger, (8,), 9), *MODELS]).version == 2
