"""The fast path of version 1 returns what v1.py returns, or None."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.v1 import rollout_from_v1
from schemas.rollout.v1_fast import read_v1_fast
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
def test_the_fast_path_returns_the_same_columns_as_v1(document):
    data = orjson.dumps(document)
    fast = read_v1_fast(data)
    if fast is not None:
        assert_same(rollout_from_v1(orjson.loads(data), NO_RULES), fast)


def test_the_unreal_sample_takes_the_fast_path():
    data = (SAMPLES / "rollout_0_20241225_143022.json").read_bytes()
    fast = read_v1_fast(data)
    assert fast is not None
    assert_same(rollout_from_v1(orjson.loads(data), NO_RULES), fast)
    assert fast.actions.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("change", [change for change, _, _ in BROKEN.values()], ids=BROKEN)
def test_the_fast_path_does_not_read_wrong_documents(change):
    assert read_v1_fast(broken(change)) is None


@pytest.mark.parametrize("value", [True, "1", None, [1.0]])
@pytest.mark.parametrize("key", ["reward", "log_prob", "value"])
def test_the_fast_path_does_not_read_other_types_as_numbers(key, value):
    document = v1_document(make_rollout())
    document["experiences"][2][key] = value
    assert read_v1_fast(orjson.dumps(document)) is None


def test_numbers_too_large_for_float32_are_infinite():
    document = v1_document(make_rollout())
    document["experiences"][2]["reward"] = 1e300
    fast = read_v1_fast(orjson.dumps(document))
    assert fast is not None
    assert np.isinf(fast.rewards[2])
