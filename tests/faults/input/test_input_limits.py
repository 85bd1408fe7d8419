"""Numbers that are not finite or too large, and documents that are too deep, too big or ambiguous (rows 12 to 16)."""

from __future__ import annotations

import codecs
import json
import time

import numpy as np
import orjson
import pytest

from schemas.rollout.cache import load_rollout
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_MAGNITUDE
from schemas.rollout.v1_fast import read_v1_fast
from tests.faults.support.inputs import duplicate_key, measure_read, reasons, refusal, v1, v2
from tests.helpers import v1_bytes, write_rollout
from trainer.networks.normaliser import ObservationNormaliser

SMALL = v1_bytes(n=8)


@pytest.mark.fault(12)
@pytest.mark.parametrize("token", ["nan", "-nan(ind)", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999", "9" * 5000])
def test_experiences_that_are_not_finite_are_left_out_with_a_warning(make_input_harness, token):
    """Check that the other experiences are used: see 'Rollout JSON' in docs/reference/formats.md."""
    harness = make_input_harness(auto_train_after_n_rollouts=100)
    for number, field in enumerate(["reward", "value", "log_prob"]):
        document = v1(lambda d, e, field=field: e[3].update({field: 12345.5}), seed=number)
        write_rollout(harness.paths.exports, number, orjson.dumps(document).replace(b"12345.5", token.encode()))
    state = v1(lambda d, e: e[3]["state"].__setitem__(2, 12345.5), seed=9)
    write_rollout(harness.paths.exports, 9, orjson.dumps(state).replace(b"12345.5", token.encode()))
    harness.until(lambda: harness.ledger.pending_count() == 4)
    [warning] = [w for w in harness.context.warnings() if w.code == "W_NONFINITE"]
    assert "in 1 of 8 experiences: 1 experiences are left out" in warning.message
    left_out = []
    for path in sorted(harness.paths.cache.iterdir()):
        rollout = load_rollout(path)
        left_out.append(rollout.left_out)
        assert rollout.size == 8 - rollout.left_out
        assert all(np.isfinite(getattr(rollout, f)).all() for f in ("observations", "rewards", "values"))
        assert not np.isinf(rollout.log_probs).any()
    assert sorted(left_out) == [0, 0, 1, 1]


@pytest.mark.fault(12)
def test_a_file_without_one_finite_experience_is_rejected(make_input_harness):
    harness = make_input_harness()
    write_rollout(harness.paths.exports, 1, orjson.dumps(v1(lambda d, e: [x.update(reward=None) for x in e])))
    harness.until(lambda: harness.ledger.rejected_count() == 1)
    assert list(reasons(harness).values()) == ["E_NONFINITE"]


@pytest.mark.fault(12)
def test_a_reward_part_that_is_not_finite_counts_as_0():
    document = v2(lambda d: d.update(reward_parts={"speed": [1.0] * 7 + [None]}))
    rollout = read_rollout(orjson.dumps(document))
    assert rollout.left_out == 0
    assert rollout.reward_parts["speed"].tolist() == [1.0] * 7 + [0.0]


EXTREMES = {
    "1e308": False,
    "-1.7976931348623157e308": False,
    "18446744073709551616": False,
    "1" + "0" * 250: False,
    "1000001000000": False,
    "1e12": True,
    "5e-324": True,
    "1e-400": True,
    "-0.0": True,
    "123456789012": True,
}


@pytest.mark.fault(13)
@pytest.mark.parametrize(("token", "is_kept"), EXTREMES.items(), ids=[token[:24] for token in EXTREMES])
@pytest.mark.parametrize("place", ["state", "reward"])
def test_numbers_out_of_range_are_left_out_and_valid_extremes_are_kept(place, token, is_kept):
    def put(document, experiences):
        if place == "state":
            experiences[3]["state"][2] = 12345.5
        else:
            experiences[3]["reward"] = 12345.5

    rollout = read_rollout(orjson.dumps(v1(put)).replace(b"12345.5", token.encode()))
    assert rollout.left_out == (0 if is_kept else 1)
    assert (np.abs(rollout.observations) <= MAX_MAGNITUDE).all()
    normaliser = ObservationNormaliser.identity(15).updated(rollout.observations)
    assert normaliser(rollout.observations).isfinite().all()


@pytest.mark.fault(13)
@pytest.mark.parametrize("value", [2**64, 10**400, -1, 1.5])
def test_agents_and_versions_out_of_range_are_refused(value):
    if value != -1:
        assert refusal(json.dumps(v1(lambda d, e: e[3].update(agent_index=value))).encode()).code == "E_SCHEMA"
    if value != 10**400:  # too large for any number, so it is read as missing
        assert refusal(json.dumps(v2(lambda d: d.update(policy_version=value * 2**22))).encode()).code == "E_SCHEMA"


BOMBS = {
    "lists": b"[" * 5_000_000,
    "objects": b'{"a":' * 1_000_000,
    "in place of the experiences": b'{"experiences":' + b"[" * 5_000_000,
    "inside a column": b'{"schema":"hotlap.rollout/2","rewards":' + b"[" * 3_000_000 + b"]" * 3_000_000 + b"}",
    "behind a nan": b'{"x": nan, "experiences":' + b"[" * 2_000_000,
    "closed again, shallow enough for small files": b'{"experiences":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.fault(14)
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_nesting_bomb_is_refused_within_a_second(bomb):
    began = time.perf_counter()
    assert refusal(bomb).code in {"E_DEPTH", "E_TOO_BIG"}
    assert time.perf_counter() - began < 1.0


@pytest.mark.fault(14)
def test_a_nesting_bomb_takes_less_than_50_mb(tmp_path):
    (tmp_path / "bomb").write_bytes(BOMBS["lists"])
    code, grown_mb = measure_read(tmp_path / "bomb")
    assert code == "E_DEPTH"
    assert grown_mb < 50


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "data", [b"[" + b"0," * 17_000_000 + b"0]", b'{"experiences":[' + b"{}," * 2_200_000 + b"{}]}"], ids=["0,", "{},"]
)
def test_more_values_than_fit_are_refused_before_they_are_parsed(tmp_path, data):
    (tmp_path / "bomb").write_bytes(data)
    code, grown_mb = measure_read(tmp_path / "bomb")
    assert code == "E_TOO_BIG"
    assert grown_mb < len(data) / 1e6 + 20


_ROW = b'{"state":[%b],"action":{"a":0},"reward":0,"done":false,"log_prob":0,"value":0}'
COSTLY = {
    "nan everywhere": (
        b'{"experiences":[' + b",".join([_ROW % b",".join([b"nan"] * 50)] * 18_000) + b"]}",
        "E_NONFINITE",
    ),
    "small experiences, one nan": (
        b'{"experiences":[' + b",".join([_ROW % b"0"] * 60_000) + b"," + _ROW % b"nan" + b"]}",
        "whole",
    ),
    "one state of empty objects": (b'{"experiences":[' + _ROW % b",".join([b"{}"] * 1_500_000) + b"]}", "E_TOO_BIG"),
    "a million names": (b"{" + b",".join(b'"%x":0' % number for number in range(500_000)) + b"}", "E_TOO_BIG"),
}


@pytest.mark.fault(86)
@pytest.mark.parametrize("name", COSTLY)
def test_reading_takes_less_than_ten_times_the_size_of_a_large_file(tmp_path, name):
    data, expected = COSTLY[name]
    (tmp_path / "file").write_bytes(data)
    code, grown_mb = measure_read(tmp_path / "file")
    assert code == expected
    assert grown_mb < 10 * len(data) / 1e6


@pytest.mark.fault(15)
def test_one_long_text_in_a_column_does_not_multiply_the_memory(tmp_path):
    """Check the memory: a numpy array of these texts would need 80 GB, because all rows have the longest length."""
    document = v2(lambda d: d.update(rewards=["x" * 1_000_000] + ["y"] * 20_000))
    (tmp_path / "bomb").write_bytes(orjson.dumps(document))
    code, grown_mb = measure_read(tmp_path / "bomb")
    assert code == "E_SCHEMA"
    assert grown_mb < 50


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(action_space={"n": 10**15}, actions=[1] * 8), "choices"),
        (lambda d: d.update(rewards={"dtype": "<f4", "shape": [2**40], "data": ""}), "`rewards`"),
        (lambda d: d.update(rewards={"dtype": "<f4", "shape": [1] * 100, "data": "AAAAAA=="}), "`rewards`"),
        (lambda d: d["action_space"].update(low=[-1e300] * 3), "bound"),
    ],
    ids=["choices", "rows", "dimensions", "bounds"],
)
def test_stated_sizes_beyond_the_limits_are_refused(change, words):
    error = refusal(json.dumps(v2(change)).encode())
    assert error.code == "E_SCHEMA"
    assert words in error.message


@pytest.mark.fault(16)
@pytest.mark.parametrize("key", [b'"reward":', b'"state":', b'"action":', b'"steer":', b'"advantage":'])
@pytest.mark.parametrize("at", [0, 5, 7])
def test_a_duplicate_key_is_refused(key, at):
    error = refusal(duplicate_key(SMALL, key, at))
    assert (error.code, error.incomplete) == ("E_DUPKEY", False)
    assert key.decode().strip('":') in error.message


@pytest.mark.fault(16)
@pytest.mark.parametrize("key", [b'"num_experiences":', b'"experiences":', b'"timestamp":'])
def test_a_duplicate_key_at_the_top_is_refused(key):
    assert refusal(duplicate_key(SMALL, key)).code == "E_DUPKEY"
    assert refusal(SMALL[:-1] + b"," + key + b"1}").code == "E_DUPKEY"


@pytest.mark.fault(16)
def test_a_duplicate_key_in_every_experience_or_with_escapes_is_refused():
    assert refusal(SMALL.replace(b'"reward":', b'"reward":0,"reward":')).code == "E_DUPKEY"
    assert refusal(duplicate_key(SMALL, b'"reward":').replace(b'"reward":0', rb'"re\u0077ard":0')).code == "E_DUPKEY"
    assert (
        refusal(codecs.BOM_UTF16_LE + duplicate_key(SMALL, b'"value":').decode().encode("utf-16-le")).code == "E_DUPKEY"
    )
    for key in (b'"rewards":', b'"names":', b'"schema":'):
        assert refusal(duplicate_key(orjson.dumps(v2()), key)).code == "E_DUPKEY"


@pytest.mark.fault(16)
def test_colons_in_strings_are_not_keys():
    many = v1(lambda d, e: [x.update(note=f"{'a:b' * i}") for i, x in enumerate(e)])
    many["experiences"][0]["x:y"] = {"deep": ["a:b", {"c:d": ":"}]}
    many["timestamp"] = "12:00:00 ]} :"
    assert read_rollout(orjson.dumps(many)).size == 8
    assert read_v1_fast(SMALL.replace(b"2026.11.21-12.00.00", b"2026-11-21T12:00:00Z]")) is not None


@pytest.mark.fault(16)
def test_the_fast_reader_accepts_a_regular_file_and_refuses_a_duplicate_key():
    assert read_v1_fast(v1_bytes(n=2048)) is not None
    assert read_v1_fast(duplicate_key(SMALL, b'"reward":', 5)) is None
