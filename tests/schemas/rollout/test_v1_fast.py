"""The quick reader of version 1 gives what the plain one gives, or steps aside."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rollout.v1 import rollout_from_v1
from schemas.rollout.v1_fast import read_typed_v1
from tests.helpers import SAMPLES, make_rollout, v1_document
from tests.schemas.rollout.test_rollout import BROKEN, assert_same, broken

NUMBERS = st.floats(-1e30, 1e30) | st.integers(-(2**53), 2**53)


@st.composite
def documents(draw):
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
    size = draw(st.integers(1, 4))
    experience = st.fixed_dictionaries(
        {
            "state": st.lists(NUMBERS, min_size=size, max_size=size),
            "action": st.fixed_dictionaries(dict.fromkeys(names, NUMBERS)),
            "reward": NUMBERS,
            "done": st.booleans(),
            "log_prob": NUMBERS,
            "value": NUMBERS,
            "agent_index": st.integers(0, 100),
        },
        optional={"advantage": NUMBERS, "return": NUMBERS, "note": st.text(max_size=5)},
    )
    return {"experiences": draw(st.lists(experience, min_size=1, max_size=4)), "timestamp": "x"}


@given(documents())
def test_both_readers_give_the_same_columns(document):
    data = orjson.dumps(document)
    typed = read_typed_v1(data)
    if typed is not None:
        assert_same(rollout_from_v1(orjson.loads(data)), typed)


def test_the_sample_takes_the_quick_way():
    data = (SAMPLES / "rollout_0_20241225_143022.json").read_bytes()
    typed = read_typed_v1(data)
    assert typed is not None
    assert_same(rollout_from_v1(orjson.loads(data)), typed)
    assert typed.actions.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("change", [change for change, _, _ in BROKEN.values()], ids=BROKEN)
def test_what_is_broken_is_left_to_the_plain_reader(change):
    assert read_typed_v1(broken(change)) is None


@pytest.mark.parametrize("value", [True, "1", None, [1.0]])
@pytest.mark.parametrize("key", ["reward", "log_prob", "value"])
def test_what_is_no_number_is_left_to_the_plain_reader(key, value):
    document = v1_document(make_rollout())
    document["experiences"][2][key] = value
    assert read_typed_v1(orjson.dumps(document)) is None


def test_numbers_beyond_float32_come_out_infinite_and_are_left_out_later():
    document = v1_document(make_rollout())
    document["experiences"][2]["reward"] = 1e300
    typed = read_typed_v1(orjson.dumps(document))
    assert typed is not None
    assert np.isinf(typed.rewards[2])
