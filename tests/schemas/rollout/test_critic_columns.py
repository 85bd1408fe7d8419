"""Critic observations in rollout files: what is read, what is refused and why, and what happens to them afterwards."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np
import orjson
import pytest

from schemas.errors import RolloutError
from schemas.rollout.cache import load_rollout, store_rollout
from schemas.rollout.finite import in_words, remedy
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.meaning.separation import separate_agents
from schemas.rollout.reader import finished, read_rollout
from schemas.rollout.repeats import RowSummary, find_repeats, row_hashes, without_rows
from schemas.rollout.rollout import MAX_OBSERVATION_SIZE, Rollout
from schemas.rollout.v2 import rollout_to_v2
from tests.cars import shared_index_rollout
from tests.helpers import DATA, make_rollout, v1_document

N, WIDTH, AGENTS = 12, 3, 2
CRITIC = np.arange(N * WIDTH, dtype=np.float32).reshape(N, WIDTH)
FINAL = np.array([[5.0, 6.0, 7.0], [8.0, 9.0, 10.0]], np.float32)


def rollout_with(**changes: Any) -> Rollout:
    """Return a rollout with critic observations, and with final ones of both agents."""
    columns = {
        "critic_observations": CRITIC,
        "final_observations": np.ones((AGENTS, 4), np.float32),
        "final_agents": np.arange(AGENTS, dtype=np.int32),
        "final_critic_observations": FINAL,
    }
    plain = make_rollout(n=N, observation_size=4, agents=AGENTS)
    return dataclasses.replace(plain, terminated=np.zeros(N, bool), **(columns | changes))


def document(**changes: Any) -> dict[str, Any]:
    """Return the document of `rollout_with`, with other values for some keys; None removes a key."""
    known = orjson.loads(rollout_to_v2(rollout_with(), rollout_id="r", base64_columns=False)) | changes
    return {key: value for key, value in known.items() if value is not None}


def read(**changes: Any) -> Rollout:
    return read_rollout(orjson.dumps(document(**changes)))


def refusal(**changes: Any) -> RolloutError:
    with pytest.raises(RolloutError) as caught:
        read(**changes)
    return caught.value


@pytest.mark.parametrize("base64_columns", [False, True])
def test_a_file_keeps_its_critic_observations(base64_columns):
    again = read_rollout(rollout_to_v2(rollout_with(), rollout_id="r", base64_columns=base64_columns))
    np.testing.assert_array_equal(again.critic_observations, CRITIC)
    np.testing.assert_array_equal(again.final_critic_observations, FINAL)
    assert again.critic_width == WIDTH
    assert again.contract == rollout_with().contract


def test_the_contract_does_not_contain_them():
    assert read().contract.digest() == read(critic_observations=None, final_critic_observations=None).contract.digest()


@pytest.mark.parametrize("finals", [{"0": [5.0], "1": [8.0]}, {"0": 5.0, "1": 8.0}])
def test_one_number_for_each_step_is_a_column_of_width_one(finals):
    rollout = read(critic_observations=CRITIC[:, 0].tolist(), final_critic_observations=finals)
    np.testing.assert_array_equal(rollout.critic_observations, CRITIC[:, :1])
    np.testing.assert_array_equal(rollout.final_critic_observations, FINAL[:, :1])


def base64_of(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


@pytest.mark.parametrize("empty", [None, [], {}, [[]] * N, base64_of(np.zeros((N, 0), np.float32))])
def test_an_empty_column_counts_as_missing(empty):
    finals = {"0": [], "1": []} if empty else empty
    rollout = read(critic_observations=empty, final_critic_observations=finals)
    assert rollout.critic_observations is None
    assert rollout.final_critic_observations is None
    assert rollout.critic_width == 0


MISTAKES = {
    "a row is missing": (
        {"critic_observations": CRITIC[:-1].tolist()},
        "`critic_observations` has 11 rows, but `observations` has 12",
    ),
    "the column is written flat": (
        {"critic_observations": CRITIC.reshape(-1).tolist()},
        "`critic_observations` has 36 rows, but `observations` has 12",
    ),
    "rows have different widths": (
        {"critic_observations": [*CRITIC[:-1].tolist(), [1.0, 2.0]]},
        "`critic_observations` is ragged: 2 values in row 11, but 3 in the first",
    ),
    "a row is missing in the middle": (
        {"critic_observations": [*CRITIC[:-1].tolist(), []]},
        "`critic_observations` is ragged: 0 values in row 11, but 3 in the first",
    ),
    "only some rows are lists": (
        {"critic_observations": [*CRITIC[:-1].tolist(), 1.0]},
        "`critic_observations` contains both rows and single values",
    ),
    "an object for each step": (
        {"critic_observations": [{"target": 1.0}] * N},
        "`critic_observations` contains dict instead of a number",
    ),
    "numbers in quotes": (
        {"critic_observations": [["1.5", 0.0, 0.0]] * N},
        '`critic_observations` is the text "1.5" in experience 0',
    ),
    "one list for each agent": (
        {"critic_observations": {"0": [1.0], "1": [2.0]}},
        "`critic_observations` is an object, but not a base64 column: it has no `dtype`",
    ),
    "true and false": (
        {"critic_observations": [[True, 0.0, 0.0]] * N},
        "`critic_observations` contains bool instead of a number",
    ),
    "three dimensions": (
        {"critic_observations": [[[1.0]]] * N},
        "`critic_observations` contains list instead of a number",
    ),
    "a base64 column with too few bytes": (
        {"critic_observations": base64_of(CRITIC) | {"shape": [N, WIDTH + 1]}},
        "`critic_observations` has 144 bytes, but its shape needs 192",
    ),
    "camel case": (
        {"critic_observations": None, "criticObservations": CRITIC.tolist()},
        "it has `criticObservations` instead of `critic_observations`",
    ),
    "singular": (
        {"critic_observations": None, "critic_observation": CRITIC.tolist()},
        "it has `critic_observation` instead of `critic_observations`",
    ),
    "finals in camel case": (
        {"final_critic_observations": None, "finalCriticObservations": {"0": [1.0, 2.0, 3.0]}},
        "it has `finalCriticObservations` instead of `final_critic_observations`",
    ),
    "finals of another width": (
        {"final_critic_observations": {"0": [1.0]}},
        "`final_critic_observations` has 1 columns, but `critic_observations` has 3",
    ),
    "finals of an agent without a step": (
        {"final_critic_observations": {"car": [1.0, 2.0, 3.0]}},
        "`final_critic_observations` contains the agent 'car', which has no step",
    ),
    "finals of one agent twice": (
        {"final_critic_observations": {"1": [1.0, 2.0, 3.0], "01": [1.0, 2.0, 3.0]}},
        "`final_critic_observations` contains an agent twice",
    ),
    "finals as a list of too few": (
        {"final_critic_observations": [[1.0, 2.0, 3.0]]},
        "`final_critic_observations` is a list of 1, but 2 agents have steps",
    ),
    "finals without the column of the steps": (
        {"critic_observations": None},
        "it has `final_critic_observations`, but no `critic_observations`",
    ),
    "finals without those of the policy": (
        {"final_observations": None},
        "it has `final_critic_observations`, but no `final_observations`",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_an_exporter_is_refused_with_its_column(mistake):
    changes, message = MISTAKES[mistake]
    error = refusal(**changes)
    assert message in error.message
    assert (error.code, error.incomplete) == ("E_SCHEMA", False)
    assert error.hint


def test_too_many_are_refused():
    wide = base64_of(np.zeros((N, MAX_OBSERVATION_SIZE + 1), np.int8))
    assert "131,073 critic observations, more than the 131,072 allowed" in refusal(critic_observations=wide).message


def test_a_key_that_appears_twice_is_refused():
    data = orjson.dumps(document()).replace(
        b'"critic_observations"', b'"critic_observations":[],"critic_observations"', 1
    )
    with pytest.raises(RolloutError) as caught:
        read_rollout(data)
    assert caught.value.code == "E_DUPKEY"


def test_version_1_has_none():
    text = v1_document(make_rollout())
    for experience in text["experiences"]:
        experience["critic_observations"] = [1.0]
    assert read_rollout(orjson.dumps(text)).critic_observations is None


@pytest.mark.parametrize("value", ["null", "NaN", "-nan(ind)", "1e39", '"Infinity"', "1e13"])
def test_an_experience_with_a_value_that_is_not_finite_is_left_out_and_named(value):
    text = orjson.dumps(document()).decode().replace("[3.0,4.0,5.0]", f"[3.0,{value},5.0]")
    rollout = read_rollout(text.encode())
    assert (rollout.size, rollout.left_out) == (N - 1, 1)
    np.testing.assert_array_equal(rollout.critic_observations, np.delete(CRITIC, 1, axis=0))
    assert in_words(rollout.causes, N).startswith("critic observation 1 is ")
    assert rollout.after_gap.tolist() == [False, False, True, *[False] * 8]  # agent 1's next step


def test_a_large_value_is_not_blamed_on_a_setting_that_does_not_apply():
    causes = read(critic_observations=np.where(CRITIC == 4, 1e20, CRITIC).tolist()).causes
    assert "clamp it in the engine" in remedy(causes)
    assert "set agent" not in remedy(causes)


def test_if_no_experience_is_finite_the_file_is_refused():
    error = refusal(critic_observations=[[None, 0.0, 0.0]] * N)
    assert error.code == "E_NONFINITE"
    assert "critic observation 0 is nan in 12 of 12 experiences" in error.message


def test_a_final_one_that_is_not_finite_or_missing_is_not_known():
    for finals in ({"1": FINAL[1].tolist()}, {"0": [None, 1.0, 2.0], "1": FINAL[1].tolist()}):
        rollout = read(final_critic_observations=finals)
        assert len(rollout.final_observations) == AGENTS
        assert np.isnan(rollout.final_critic_observations[0]).all()
        np.testing.assert_array_equal(rollout.final_critic_observations[1], FINAL[1])
        again = read_rollout(rollout_to_v2(rollout, rollout_id="r", base64_columns=True))
        np.testing.assert_array_equal(again.final_critic_observations, rollout.final_critic_observations)


def test_a_final_observation_that_is_left_out_takes_the_critics_one_along():
    rollout = read(final_observations={"0": [None] * 4, "1": [1.0] * 4})
    assert rollout.final_agents.tolist() == [1]
    np.testing.assert_array_equal(rollout.final_critic_observations, FINAL[1:])


def test_observation_limit_does_not_apply():
    limited = finished(rollout_with(), ReadingRules(observation_limit=0.5))
    assert np.abs(limited.observations).max() <= 0.5
    np.testing.assert_array_equal(limited.critic_observations, CRITIC)
    np.testing.assert_array_equal(limited.final_critic_observations, FINAL)


def test_rows_are_recognised_as_repeated_with_and_without_critic_observations():
    one, other = rollout_with(), rollout_with(critic_observations=None, final_critic_observations=None)
    np.testing.assert_array_equal(row_hashes(one), row_hashes(other))
    found = find_repeats(RowSummary.of("b", one), [RowSummary.of("a", other)])
    assert found.is_same


def test_rows_that_remain_keep_their_own():
    rollout = rollout_with()
    is_repeated = np.arange(N) < 8
    left = without_rows(rollout, is_repeated)
    kept = [row for row in range(N) if rollout.rewards[row] in left.rewards]
    np.testing.assert_array_equal(left.critic_observations, CRITIC[kept])
    np.testing.assert_array_equal(left.final_critic_observations, FINAL)
    last_of_agent_1 = np.arange(N) == N - 1
    np.testing.assert_array_equal(without_rows(rollout, last_of_agent_1).final_critic_observations, FINAL[:1])


def test_agents_that_share_an_index_lose_their_final_ones_only():
    shared = shared_index_rollout()
    critic = np.arange(2 * shared.size, dtype=np.float32).reshape(-1, 2)
    finals = {"final_observations": shared.observations[:2], "final_agents": np.array([0, 7], dtype=np.int32)}
    finals |= {"critic_observations": critic, "final_critic_observations": np.array([[1, 2], [3, 4]], np.float32)}
    separated = separate_agents(dataclasses.replace(shared, **finals))
    assert separated.recovered is not None
    np.testing.assert_array_equal(separated.critic_observations, critic)
    assert separated.final_critic_observations.tolist() == [[3, 4]]


def test_the_cache_returns_them(tmp_path):
    rollout = dataclasses.replace(rollout_with(), reward_parts={"speed": np.arange(N, dtype=np.float32)})
    rollout.final_critic_observations[0] = np.nan
    store_rollout(tmp_path / "rollout", rollout)
    again = load_rollout(tmp_path / "rollout")
    for name in ("critic_observations", "final_critic_observations", "final_agents", "observations"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rollout, name))
    np.testing.assert_array_equal(again.reward_parts["speed"], rollout.reward_parts["speed"])


def test_a_cache_file_of_an_earlier_version_is_read(tmp_path):
    """Its rollout file may no longer exist. The data are an actual file that was written before these columns."""
    again = load_rollout(DATA / "cache" / "columns_3")
    expected = make_rollout(n=8, observation_size=3, agents=2)
    np.testing.assert_array_equal(again.observations, expected.observations)
    np.testing.assert_array_equal(again.agents, expected.agents)
    assert again.reward_parts["speed"].tolist() == list(range(8))
    assert again.critic_observations is None
    assert again.final_critic_observations is None
    store_rollout(tmp_path / "rollout", again)
    assert load_rollout(tmp_path / "rollout").rewards.tolist() == expected.rewards.tolist()
