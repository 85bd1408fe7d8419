"""Any whole number of 64 bits and any text identifies an agent, in both versions."""

from __future__ import annotations

import base64

import numpy as np
import orjson
import pytest

from schemas.errors import RolloutError
from schemas.rollout.reader import read_rollout
from schemas.rollout.v1_fast import read_v1_fast
from schemas.rollout.v2 import rollout_to_v2
from tests.helpers import make_rollout, v1_document

NAMES = {
    "Godot's ids": lambda i: 26877099412 + i,
    "next to 2**53": lambda i: 2**53 + i,
    "the last of 64 bits": lambda i: 2**63 - 2 + i,
    "unsigned": lambda i: 2**64 - 2 + i,
    "negative": lambda i: -(2**63) + i,
    "texts": lambda i: f"Car_{i}",
    "texts of numbers": lambda i: str(2**40 + i),
}


def v1_with(name) -> bytes:
    document = v1_document(make_rollout(n=8, agents=2))
    for i, experience in enumerate(document["experiences"]):
        experience["agent_index"] = name(i % 2)
    return orjson.dumps(document)


def v2_with(**columns) -> bytes:
    return orjson.dumps(orjson.loads(rollout_to_v2(make_rollout(n=8), rollout_id="r", base64_columns=False)) | columns)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_two_agents_stay_two_agents(name):
    assert read_rollout(v1_with(name)).agents.tolist() == [0, 1] * 4
    assert read_rollout(v2_with(agents=[name(i % 2) for i in range(8)])).agents.tolist() == [0, 1] * 4


def test_numbers_of_64_bits_take_the_fast_path():
    assert read_v1_fast(v1_with(NAMES["next to 2**53"])).agents.tolist() == [0, 1] * 4


def test_small_numbers_are_kept():
    assert read_rollout(v1_with(lambda i: 7 - 4 * i)).agents.tolist() == [7, 3] * 4


@pytest.mark.parametrize("row", [0, 3, 7])
@pytest.mark.parametrize("value", ["missing", None])
def test_a_row_without_an_agent_index_is_agent_0(row, value):
    document = v1_document(make_rollout(n=8, agents=4))
    document["experiences"][row]["agent_index"] = value
    if value == "missing":
        del document["experiences"][row]["agent_index"]
    expected = [i % 4 for i in range(8)]
    expected[row] = 0
    assert read_rollout(orjson.dumps(document)).agents.tolist() == expected


@pytest.mark.parametrize("token", ["1.5", "true", "[]", "18446744073709551616", f'"{"x" * 201}"', "1e300"])
def test_other_values_are_refused_with_their_place(token):
    document = v1_document(make_rollout(n=8))
    document["experiences"][3]["agent_index"] = 12345678
    with pytest.raises(RolloutError, match=r"`agent_index` is .* in experience 3"):
        read_rollout(orjson.dumps(document).replace(b"12345678", token.encode()))


@pytest.mark.parametrize("dtype", ["<i8", "<f8", "<i2", "|u1"])
def test_agents_of_version_2_are_exact_in_base64(dtype):
    numbers = np.array([2**40, 2**40 + 1] * 4 if dtype in {"<i8", "<f8"} else [4, 9] * 4).astype(dtype)
    column = {"dtype": dtype, "shape": [8], "data": base64.b64encode(numbers.tobytes()).decode()}
    assert len(set(read_rollout(v2_with(agents=column)).agents.tolist())) == 2


def test_version_2_without_agents_has_one_agent():
    document = orjson.loads(v2_with())
    for name in ("agents", "log_probs", "values", "truncated"):
        del document[name]
    rollout = read_rollout(orjson.dumps(document))
    assert (rollout.size, set(rollout.agents.tolist())) == (8, {0})
    assert np.isnan(rollout.log_probs).all()


def finals(count: int) -> list[list[float]]:
    return [[float(i)] * 15 for i in range(count)]


def test_final_observations_are_found_by_the_agents_names():
    agents = [f"Car_{i % 2}" for i in range(8)]
    data = v2_with(agents=agents, final_observations={"Car_1": finals(2)[1], "Car_0": finals(1)[0]})
    rollout = read_rollout(data)
    assert dict(zip(rollout.final_agents.tolist(), rollout.final_observations[:, 0].tolist(), strict=True)) == {
        0: 0,
        1: 1,
    }


def test_a_list_of_final_observations_is_mapped_if_its_length_leaves_no_doubt():
    rollout = read_rollout(v2_with(agents=[1, 0] * 4, final_observations=finals(2)))
    assert dict(zip(rollout.final_agents.tolist(), rollout.final_observations[:, 0].tolist(), strict=True)) == {
        0: 0,
        1: 1,
    }
    rollout = read_rollout(v2_with(agents=[4, 9] * 4, final_observations=finals(2)))
    assert dict(zip(rollout.final_agents.tolist(), rollout.final_observations[:, 0].tolist(), strict=True)) == {
        4: 0,
        9: 1,
    }


@pytest.mark.parametrize(("agents", "count"), [([9, 4] * 4, 2), ([0, 1] * 4, 3), ([0, 1] * 4, 1)])
def test_a_list_of_final_observations_that_could_mean_other_agents_is_refused(agents, count):
    with pytest.raises(RolloutError, match="`final_observations` is a list of"):
        read_rollout(v2_with(agents=agents, final_observations=finals(count)))
