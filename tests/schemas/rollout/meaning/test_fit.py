"""The reading rules decide the order and bounds of actions, choices, and which observations are clamped."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import orjson
import pytest

from schemas.errors import RolloutError
from schemas.rollout.cache import load_rollout, store_rollout
from schemas.rollout.meaning.fit import name_pairs
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.reader import read_rollout
from schemas.rollout.v2 import rollout_to_v2
from schemas.settings.models import AgentSettings
from tests.helpers import make_rollout, v1_document
from tests.schemas.rollout.test_rollout import assert_same

USUAL = ("steer", "throttle", "brake")


def rules(**agent) -> ReadingRules:
    return ReadingRules.of(AgentSettings(**agent))


def read(change, agent_rules: ReadingRules = NO_RULES):
    document = v1_document(make_rollout(n=8))
    for number, experience in enumerate(document["experiences"]):
        change(number, experience)
    return read_rollout(orjson.dumps(document), agent_rules)


def with_keys(order):
    return lambda _, e: e.update(action={order(name): e["action"][name] for name in sorted(e["action"])})


def with_action(value):
    return lambda i, e: e.update(action=value(i))


@pytest.mark.parametrize("agent", [{}, {"actions": USUAL}, {"action_high": (1.0, 1.0, 1.0)}])
def test_keys_in_another_order_are_read_as_the_same_arrays(agent):
    plain = read(lambda i, e: None, rules(**agent))
    assert_same(plain, read(with_keys(str), rules(**agent)))
    assert plain.contract.action_space.names == USUAL


def test_the_settings_give_order_and_bounds_to_version_1():
    agent = rules(actions=("stop", "turn", "gas"), action_low=(0, -1, 0), action_high=(1, 1, 5))
    own = {"steer": "turn", "throttle": "gas", "brake": "stop"}
    plain, rollout = read(lambda i, e: None), read(with_keys(own.__getitem__), agent)
    np.testing.assert_array_equal(rollout.actions, plain.actions[:, [2, 0, 1]])
    assert rollout.contract.action_space.in_words() == "stop [0, 1], turn [-1, 1], gas [0, 5]"


def test_names_without_settings_keep_the_order_of_the_file():
    rollout = read(with_action(lambda i: {"turn": 0.25, "gas": 0.5}))
    assert rollout.contract.action_space.in_words() == "turn [-1, 1], gas [-1, 1]"


@pytest.mark.parametrize(
    ("order", "pair"),
    [
        (str.capitalize, "'Steer' and 'steer'"),
        (lambda name: f"action_{name}", "'action_throttle' and 'throttle'"),
        (lambda name: f"b{name.capitalize()}", "'bBrake' and 'brake'"),
    ],
)
def test_names_that_differ_in_case_or_prefix_are_paired_in_the_refusal(order, pair):
    with pytest.raises(RolloutError, match=pair) as caught:
        read(with_keys(order), rules(actions=USUAL))
    assert caught.value.code == "E_CONTRACT"
    assert "daemon.toml" in caught.value.line()


def test_equal_names_are_never_paired():
    assert name_pairs(("steer", "gas"), ("steer", "Gas")) == [("Gas", "gas")]
    assert name_pairs(("steer", "gas"), ("steer", "jump")) == []


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ({"observation_size": 14}, "15 observations instead of 14 (agent.observation_size in daemon.toml)"),
        ({"actions": ("turn", "gas")}, "steer, throttle, brake instead of turn, gas (agent.actions in daemon.toml)"),
        ({"choices": 3}, "3 actions (steer, throttle, brake) instead of one of 3 choices"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_setting(agent, words):
    with pytest.raises(RolloutError, match=re.escape(words)):
        read(lambda i, e: None, rules(**agent))


def test_version_2_must_state_the_bounds_of_the_settings():
    data = rollout_to_v2(make_rollout(), rollout_id="r", base64_columns=False)
    assert read_rollout(data, rules(actions=USUAL)).size == 64
    with pytest.raises(RolloutError, match=r"throttle \[0, 1\].*instead of .*throttle \[0, 5\]"):
        read_rollout(data, rules(action_high=(1, 5, 1)))


# Choices


@pytest.mark.parametrize("value", [lambda i: i % 3, lambda i: float(i % 3), lambda i: "abc"[i % 3]])
def test_a_number_or_a_name_is_a_choice(value):
    rollout = read(with_action(lambda i: {"move": value(i)}), rules(choices=("a", "b", "c")))
    assert rollout.contract.action_space.in_words() == "one of 3 choices"
    assert rollout.actions[:, 0].tolist() == [i % 3 for i in range(8)]


def test_flags_are_two_choices():
    assert (
        read(with_action(lambda i: {"jump": i == 3}), rules(choices=2)).actions[:, 0].tolist()
        == [0] * 3 + [1] + [0] * 4
    )


@pytest.mark.parametrize(
    "value",
    [lambda i: i % 3, lambda i: -i, lambda i: "left", lambda i: i % 2 == 0],
    ids=["0-2", "negative", "text", "flag"],
)
def test_choices_without_the_setting_are_refused_with_the_hint(value):
    with pytest.raises(RolloutError, match=r"set agent\.choices") as caught:
        read(with_action(lambda i: {"move": value(i)}))
    assert caught.value.code == "E_CHOICES"


@pytest.mark.parametrize(
    ("values", "agent"),
    [
        ([0, 1, 0, -1], {}),
        ([0, 2.5, 1, 0], {}),
        ([0, 5, 2, 3], {"actions": ("move",), "action_low": (0,), "action_high": (5,)}),
    ],
    ids=["saturated", "one real number", "within the bounds that are set"],
)
def test_real_numbers_are_not_taken_for_choices(values, agent):
    rollout = read(with_action(lambda i: {"move": values[i % 4]}), rules(**agent))
    assert rollout.actions[:, 0].tolist() == values * 2


@pytest.mark.parametrize("value", [3, -1, 0.5, "up"])
def test_a_value_that_is_not_a_choice_is_refused(value):
    with pytest.raises(RolloutError) as caught:
        read(with_action(lambda i: {"move": value}), rules(choices=("a", "b", "c")))
    assert caught.value.code == "E_CHOICES"


# Values that are not needed, or not finite


@pytest.mark.parametrize("value", [None, "NaN", "", [], True, "Infinity"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_value_and_log_prob_never_cost_an_experience(value, is_missing):
    def change(i, e):
        for name in ("value", "log_prob"):
            if i in {2, 5} and is_missing:
                del e[name]
            elif i in {2, 5}:
                e[name] = value

    rollout = read(change)
    assert (rollout.size, rollout.left_out) == (8, 0)
    assert np.flatnonzero(np.isnan(rollout.log_probs)).tolist() == [2, 5]
    assert np.isfinite(rollout.values).all()


@pytest.mark.parametrize("text", ["NaN", "nan", "-nan(ind)", "Infinity", "-inf", "+INF", "1.#QNAN", "1.#INF", "\u221e"])
def test_a_number_that_is_not_finite_in_quotes_counts_as_what_it_means(text):
    rollout = read(lambda i, e: e.update(reward=text) if i == 3 else None)
    assert (rollout.size, rollout.left_out) == (7, 1)
    assert rollout.causes[0].column == "reward"


def test_what_is_left_out_is_named_with_its_column_count_and_value():
    def change(i, e):
        if i < 3:
            e["state"][5] = 3.4028234663852886e38
        if i == 7:
            e["action"]["brake"] = None

    rollout = read(change)
    assert rollout.left_out == 4
    assert [tuple(cause) for cause in rollout.causes] == [("observation 5", 3, "3.4e+38"), ("action brake", 1, "nan")]
    with pytest.raises(RolloutError, match=r"observation 5 is 3\.4e\+38 in 8 of 8.*set agent\.observation_limit"):
        read(lambda i, e: e["state"].__setitem__(5, 3.4e38))


@pytest.mark.parametrize(
    ("token", "expected"),
    [("3.4e38", 20.0), ("Infinity", 20.0), ("-inf", -20.0), ("1e999", 20.0), ('"-Infinity"', -20.0)],
)
def test_the_observation_limit_clamps_instead(token, expected):
    document = v1_document(make_rollout(n=8))
    document["experiences"][3]["state"][5] = 12345.5
    rollout = read_rollout(orjson.dumps(document).replace(b"12345.5", token.encode()), rules(observation_limit=20.0))
    assert rollout.left_out == 0
    assert rollout.observations[3, 5] == expected


# The cache


def test_the_cache_does_not_return_arrays_of_other_rules(tmp_path):
    path, kept = tmp_path / "rollout", rules()
    rollout = read(lambda i, e: None, kept)
    store_rollout(path, rollout, kept)
    assert load_rollout(path, kept.for_contract(rollout.contract, "rollouts")) is not None
    for other in (rules(observation_limit=5.0), rules(actions=tuple(reversed(USUAL))), rules(action_high=(1, 5, 1))):
        assert load_rollout(path, other) is None
    assert load_rollout(path, rules(choices=3)) is None
    assert load_rollout(path, rules(observation_size=14)) is None


def test_a_fitted_rollout_fits_the_rules_of_its_contract():
    rollout = read(with_keys(str))
    again = ReadingRules.of(AgentSettings(), rollout.contract)
    assert again.contract() == rollout.contract
    assert_same(read_rollout(rollout_to_v2(rollout, rollout_id="r", base64_columns=True), again), rollout)
    assert dataclasses.replace(rollout, states_bounds=True).size == 8
