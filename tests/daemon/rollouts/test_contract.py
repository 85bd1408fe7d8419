"""The settings or most rollouts define the contract; pending rollouts are read again when the rules change."""

from __future__ import annotations

import orjson
import pytest

from daemon.diagnostics.doctor import doctor
from schemas.errors import ContractError
from schemas.rollout.cache import load_rollout
from schemas.settings.loading import load
from schemas.settings.models import AgentSettings
from tests.helpers import make_rollout, v1_bytes, v1_document, write_rollout

OWN = {"steer": "turn", "throttle": "gas", "brake": "stop"}


def own_names(seed: int, names: dict[str, str] = OWN) -> bytes:
    document = v1_document(make_rollout(seed=seed))
    for experience in document["experiences"]:
        experience["action"] = {new: experience["action"][old] for old, new in names.items()}
    return orjson.dumps(document)


def reasons(harness) -> list[str]:
    return [path.read_text(encoding="utf-8").strip() for path in harness.paths.rejected.glob("*.reason.txt")]


def until_pending(harness, count: int) -> None:
    harness.until(lambda: harness.ledger.pending_count() == count and harness.inbox.is_up_to_date)


def test_a_stray_first_rollout_is_rejected_when_most_others_have_another_shape(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=3)
    write_rollout(harness.paths.exports, 0, v1_bytes(seed=0, observation_size=14))
    until_pending(harness, 1)
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: len(reasons(harness)) == 1 and harness.ledger.pending_count() == 2)
    assert "14 observations instead of 15 (in most of the first rollouts)" in reasons(harness)[0]
    assert "daemon.toml" in reasons(harness)[0]
    assert not harness.ledger.has_trained()
    write_rollout(harness.paths.exports, 3)
    harness.until_published(1)
    assert len(harness.ledger.rollouts_of(harness.ledger.last_cycle_id())) == 3


def test_a_tie_waits_for_the_next_rollout_but_a_trigger_does_not(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=2)
    write_rollout(harness.paths.exports, 0, v1_bytes(seed=0, observation_size=14))
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: any(w.code == "W_CONTRACT_TIE" for w in harness.context.warnings()))
    assert harness.ledger.pending_count() == 2
    harness.service.trigger("trigger")
    harness.until_published(1)
    assert len(reasons(harness)) == 1
    assert not any(w.code == "W_CONTRACT_TIE" for w in harness.context.warnings())


def test_rollouts_with_the_keys_in_another_order_are_read_again_in_the_order_of_most(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=3)
    reverse = dict(reversed(OWN.items()))
    files = [own_names(0, reverse), own_names(1), own_names(2)]
    for number, data in enumerate(files):
        write_rollout(harness.paths.exports, number, data)
    harness.until_published(1)
    assert harness.ledger.rejected_count() == 0
    arrays = [
        load_rollout(harness.paths.cached_rollout(u.row.sha256))
        for u in harness.ledger.rollouts_of(harness.ledger.last_cycle_id())
    ]
    assert {rollout.contract.action_space.names for rollout in arrays} == {tuple(OWN.values())}
    for rollout in arrays:
        assert rollout.actions.tolist() in [make_rollout(seed=seed).actions.tolist() for seed in range(3)]


def test_the_bounds_of_the_settings_count_for_own_names(make_harness):
    agent = AgentSettings(
        observation_size=15, actions=("turn", "gas", "stop"), action_low=(-1, 0, 0), action_high=(1, 5, 1)
    )
    harness = make_harness(agent=agent)
    write_rollout(harness.paths.exports, 1, own_names(1, dict(reversed(OWN.items()))))
    until_pending(harness, 1)
    assert harness.context.contract.action_space.in_words() == "turn [-1, 1], gas [0, 5], stop [0, 1]"


def test_pending_rollouts_are_read_again_after_the_settings_were_changed(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=9)
    document = v1_document(make_rollout(seed=1))
    document["experiences"][3]["state"][5] = 3.4e38
    write_rollout(harness.paths.exports, 1, orjson.dumps(document))
    write_rollout(harness.paths.exports, 2, v1_bytes(seed=2, observation_size=14))
    until_pending(harness, 2)
    assert sorted(used.row.left_out for used in harness.ledger.pending_rollouts()) == [0, 1]
    harness.close()
    again = make_harness(
        auto_train_after_n_rollouts=9, agent=AgentSettings(observation_size=15, observation_limit=10.0)
    )
    again.until(lambda: len(reasons(again)) == 1)
    [used] = again.ledger.pending_rollouts()
    assert (used.row.left_out, used.row.experiences) == (0, 64)
    assert load_rollout(again.paths.cached_rollout(used.row.sha256)).observations.max() == 10.0
    assert "counted once" not in again.log


def test_the_votes_of_pending_rollouts_survive_a_restart(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=4)
    for number in range(2):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number, observation_size=14))
    until_pending(harness, 2)
    harness.close()
    again = make_harness(auto_train_after_n_rollouts=4)
    write_rollout(again.paths.exports, 2)
    write_rollout(again.paths.exports, 3, v1_bytes(seed=3, observation_size=14))
    again.until(lambda: len(reasons(again)) == 1)
    assert "15 observations instead of 14" in reasons(again)[0]


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (AgentSettings(observation_size=14), "agent.observation_size is 14, but the model has 15"),
        (AgentSettings(actions=("brake", "steer", "throttle")), "but the model has the other order steer"),
        (AgentSettings(actions=("turn",)), "agent.actions is turn, but the model has steer, throttle, brake"),
        (AgentSettings(choices=3), "agent.choices describes 3 choices, but the model's action is steer"),
    ],
)
def test_settings_that_contradict_the_trained_model_are_refused_at_start(make_harness, agent, words):
    harness = make_harness()
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)
    harness.close()
    with pytest.raises(ContractError, match=words):
        make_harness(agent=agent)


def test_bounds_can_be_set_after_a_training(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=1)
    write_rollout(harness.paths.exports, 1)
    harness.until_published(1)
    harness.close()
    again = make_harness(auto_train_after_n_rollouts=1, agent=AgentSettings(action_high=(1, 5, 1)))
    assert again.context.contract.action_space.high == (1, 5, 1)
    assert again.ledger.problems() == [], "the change is not taken for damage"
    write_rollout(again.paths.exports, 2)
    again.until(lambda: again.ledger.pending_count() == 0 and len(again.ledger.rollouts_of(2)) == 1)
    assert "the bounds of the actions are now steer [-1, 1], throttle [0, 5], brake [0, 1]" in again.log
    [used] = again.ledger.rollouts_of(2)
    assert load_rollout(again.paths.cached_rollout(used.row.sha256)).contract == again.context.contract


def test_what_is_left_out_is_reported_once_for_each_column(make_harness):
    harness = make_harness(auto_train_after_n_rollouts=99)
    for number in range(6):
        document = v1_document(make_rollout(seed=number))
        for experience in document["experiences"][:10]:
            experience["state"][5 if number < 5 else 6] = 3.4e38
        write_rollout(harness.paths.exports, number, orjson.dumps(document))
    until_pending(harness, 6)
    lines = [line for line in harness.context.log.lines if "W_NONFINITE" in line]
    assert len(lines) == 2
    assert "observation 5 is 3.4e+38 in 10 of 64 experiences: 10 experiences are left out" in lines[0]
    assert "set agent.observation_limit" in lines[0]
    assert "observation 6" in lines[1]


@pytest.mark.torch
def test_doctor_reports_more_rejected_than_accepted(make_harness):
    harness = make_harness(agent=AgentSettings(observation_size=15), auto_train_after_n_rollouts=9)
    for number in range(3):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number, observation_size=14 + number // 2))
    harness.until(lambda: len(reasons(harness)) == 2 and harness.inbox.is_up_to_date)
    harness.close()
    found = [f for f in doctor(harness.paths, load(harness.paths.project)).document if f["topic"] == "rejected"]
    assert found[0]["level"] == "wrong"
    assert found[0]["text"].startswith("2 of the last 3 files were rejected")
