"""Rollouts of both versions and in all encodings are read into arrays; wrong ones are rejected with a reason."""

from __future__ import annotations

import codecs
import dataclasses
import re

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RolloutError
from schemas.rollout.cache import load_rollout, store_rollout
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import Rollout
from schemas.rollout.v2 import rollout_to_v2
from tests.helpers import SAMPLES, make_rollout, v1_bytes, v1_document

SAMPLE = (SAMPLES / "rollout_0_20241225_143022.json").read_bytes()


def assert_same(a: Rollout, b: Rollout) -> None:
    for field in dataclasses.fields(Rollout):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field.name)
        elif field.name not in {"policy_version", "noise_std", "states_bounds"}:
            assert left == right, field.name


def test_all_numbers_of_the_unreal_sample_are_read():
    rollout = read_rollout(SAMPLE)
    document = orjson.loads(SAMPLE)["experiences"]
    assert rollout.size == 64
    assert rollout.contract.action_space.names == ("steer", "throttle", "brake")
    assert rollout.contract.action_space.low == (-1.0, 0.0, 0.0)
    for i, experience in enumerate(document):
        assert rollout.observations[i].tolist() == np.float32(experience["state"]).tolist()
        assert rollout.actions[i].tolist() == np.float32(list(experience["action"].values())).tolist()
        assert rollout.terminated[i] == experience["done"]
        assert rollout.agents[i] == experience["agent_index"]
        assert rollout.log_probs[i] == np.float32(experience["log_prob"])


@pytest.mark.fault(11)
def test_the_sample_in_utf16_is_read():
    rollout = read_rollout((SAMPLES / "rollout_1_20241225_143105.utf16.json").read_bytes())
    assert rollout.size == 64
    assert rollout.contract == read_rollout(SAMPLE).contract


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    ("bom", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_all_encodings_are_read_as_the_same_rollout(bom, encoding):
    assert_same(read_rollout(SAMPLE), read_rollout(bom + SAMPLE.decode().encode(encoding)))


@pytest.mark.parametrize("base64_columns", [False, True])
def test_both_column_encodings_of_version_2_are_read_as_the_same_rollout(base64_columns):
    rollout = read_rollout(SAMPLE)
    assert_same(rollout, read_rollout(rollout_to_v2(rollout, rollout_id="r", base64_columns=base64_columns)))


def test_version_2_contains_its_policy_version_and_noise():
    rollout = dataclasses.replace(make_rollout(), policy_version=7, noise_std=0.25)
    again = read_rollout(rollout_to_v2(rollout, rollout_id="r", base64_columns=True))
    assert (again.policy_version, again.noise_std) == (7, 0.25)


@pytest.mark.fault(12)
@pytest.mark.parametrize("token", ["nan", "-nan(ind)", "NaN", "inf", "-inf", "Infinity", "-Infinity", "1e999", "null"])
def test_experiences_that_are_not_finite_are_left_out_and_counted(token):
    document = v1_document(make_rollout(agents=4))
    document["experiences"][5]["reward"] = 123456.5
    text = orjson.dumps(document).replace(b"123456.5", token.encode())
    rollout = read_rollout(text)
    assert rollout.left_out == 1
    assert rollout.size == 63
    # The next step of the same agent has no predecessor.
    assert rollout.after_gap.nonzero()[0].tolist() == [8]
    assert rollout.agents[8] == 1


def test_nan_in_a_name_is_not_replaced():
    document = v1_document(make_rollout())
    for experience in document["experiences"]:
        experience["action"] = {"nan, inf": 0.5}
    rollout = read_rollout(orjson.dumps(document).replace(b'"reward":', b'"x": nan, "reward":', 1))
    assert rollout.size == 64


@pytest.mark.fault(1)
def test_every_cut_rollout_is_rejected_as_incomplete():
    for n in range(0, len(SAMPLE) - 2, 211):
        with pytest.raises(RolloutError) as caught:
            read_rollout(SAMPLE[:n])
        assert caught.value.incomplete, n


def broken(change):
    document = v1_document(make_rollout())
    change(document, document["experiences"])
    return orjson.dumps(document)


BROKEN = {
    "no experiences": (lambda d, e: d.pop("experiences"), "E_SCHEMA", "experiences"),
    "empty list": (lambda d, e: d.update(experiences=[]), "E_EMPTY", "experiences"),
    "a missing reward": (lambda d, e: e[3].pop("reward"), "E_SCHEMA", "experience 3 has no `reward`"),
    "text for a number": (
        lambda d, e: e[3].update(reward="1.5"),
        "E_SCHEMA",
        '`reward` is the text "1.5" in experience 3',
    ),
    "bool for a number": (lambda d, e: e[3]["state"].__setitem__(0, True), "E_SCHEMA", "`state` contains bool"),
    "ragged states": (lambda d, e: e[3]["state"].append(0.0), "E_SCHEMA", "16 numbers in experience 3 and 15"),
    "a missing action": (lambda d, e: e[3]["action"].pop("brake"), "E_SCHEMA", "same names"),
    "another action": (lambda d, e: e[3].update(action={"steer": 0, "throttle": 0, "fly": 0}), "E_SCHEMA", "brake"),
    "done that is not a flag": (lambda d, e: e[3].update(done=2), "E_SCHEMA", "`done`"),
    "unknown schema": (lambda d, e: d.update(schema="hotlap.rollout/99"), "E_VERSION", "hotlap.rollout/99"),
    "all not finite": (lambda d, e: [x.update(reward=None) for x in e], "E_NONFINITE", "finite"),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize(("change", "code", "words"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_field_is_named(change, code, words):
    with pytest.raises(RolloutError, match=re.escape(words)) as caught:
        read_rollout(broken(change))
    assert caught.value.code == code
    assert not caught.value.incomplete


BROKEN_V2 = {
    "no column": (lambda d: d.pop("rewards"), "`rewards`"),
    "short column": (lambda d: d["rewards"].pop(), "`rewards` has 63 rows"),
    "ragged": (lambda d: d["observations"][3].pop(), "ragged"),
    "text": (lambda d: d["rewards"].__setitem__(0, "x"), "`rewards`"),
    "no action space": (lambda d: d.pop("action_space"), "`action_space`"),
    "empty bounds": (lambda d: d["action_space"].update(low=[1, 1, 1], high=[0, 0, 0]), "`action_space`"),
    "wrong bytes": (lambda d: d.update(rewards={"dtype": "<f4", "shape": [64], "data": "AAAA"}), "3 bytes"),
    "object dtype": (lambda d: d.update(rewards={"dtype": "|O", "shape": [64], "data": "AAAA"}), "dtype"),
    "not base64": (lambda d: d.update(rewards={"dtype": "<f4", "shape": [1], "data": "????"}), "base64"),
    "choice out of range": (lambda d: d.update(action_space={"n": 2}, actions=[5] * 64), "from 0 to 1"),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize(("change", "words"), BROKEN_V2.values(), ids=BROKEN_V2)
def test_a_wrong_column_of_version_2_is_named(change, words):
    document = orjson.loads(rollout_to_v2(make_rollout(), rollout_id="r", base64_columns=False))
    change(document)
    with pytest.raises(RolloutError, match=re.escape(words)):
        read_rollout(orjson.dumps(document))


def test_discrete_actions_are_read():
    document = orjson.loads(rollout_to_v2(make_rollout(), rollout_id="r", base64_columns=False))
    document |= {"action_space": {"n": 5}, "actions": [i % 5 for i in range(64)]}
    rollout = read_rollout(orjson.dumps(document))
    assert rollout.contract.action_space.output_size == 5
    assert rollout.actions[:, 0].tolist() == [i % 5 for i in range(64)]


@given(st.binary(max_size=200))
def test_random_bytes_raise_rollout_errors_only(data):
    with pytest.raises(RolloutError):
        read_rollout(data)


def test_a_cached_rollout_is_read_as_it_was_stored(tmp_path):
    rollout = dataclasses.replace(make_rollout(), reward_parts={"speed": np.arange(64, dtype=np.float32)})
    store_rollout(tmp_path / "rollout", rollout)
    again = load_rollout(tmp_path / "rollout")
    assert again is not None
    assert_same(dataclasses.replace(rollout, reward_parts={}), dataclasses.replace(again, reward_parts={}))
    np.testing.assert_array_equal(again.reward_parts["speed"], rollout.reward_parts["speed"])


def test_a_cut_cache_file_is_read_as_missing(tmp_path):
    path = tmp_path / "rollout"
    store_rollout(path, make_rollout())
    data = path.read_bytes()
    for n in range(0, len(data) - 1, 499):
        path.write_bytes(data[:n])
        assert load_rollout(path) is None
    assert load_rollout(tmp_path / "none") is None


def test_a_cache_file_with_one_changed_bit_is_read_as_missing(tmp_path):
    path = tmp_path / "rollout"
    store_rollout(path, make_rollout())
    data = path.read_bytes()
    for i in [*range(600), *range(600, len(data), 97)]:
        path.write_bytes(data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :])
        assert load_rollout(path) is None


def test_a_seed_decides_the_bytes_of_a_rollout():
    assert v1_bytes(seed=1) == v1_bytes(seed=1) != v1_bytes(seed=2)
