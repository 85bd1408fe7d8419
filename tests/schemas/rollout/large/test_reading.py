"""A file that is read in parts gives the same rollout, or the same error, as one that is parsed at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest

from schemas.errors import RolloutError
from schemas.rollout import v1_fast
from schemas.rollout.encoding import as_utf8
from schemas.rollout.large import document, parts
from schemas.rollout.large.reading import rollout_in_parts
from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.reader import _parse_without_fast_path, finished
from schemas.rollout.rollout import require_contract_limits
from schemas.rollout.v1_fast import read_v1_fast
from schemas.rollout.v2 import rollout_to_v2
from tests.helpers import SAMPLES, make_rollout, v1_bytes, v1_document

CORPUS = Path(__file__).parents[3] / "faults" / "corpus"
OTHER_WORDS = {
    "E_SCHEMA-depth-that-only-python-refuses.bin",
    "E_DEPTH-deep.bin",
    "E_DEPTH-deep-behind-nan.bin",  # on Python 3.13
    "E_JSON-leading-zero.bin",
    "E_JSON-two-documents.bin",
    "E_SCHEMA-a-text.bin",
}
"""Both ways refuse them, each with its own words."""


@pytest.fixture
def small_parts(monkeypatch):
    """Let a part be one experience, so that small files have many parts."""
    monkeypatch.setattr(parts, "PART_BYTES", 100)
    monkeypatch.setattr(document, "_SHORT_LIST_BYTES", 40)
    monkeypatch.setattr(v1_fast, "PART_BYTES", 100)
    monkeypatch.setattr(v1_fast, "WHOLE_BYTES", 100)


def read(parse, data):
    """Return the rollout's columns as one value to compare, or the error's line."""
    try:
        rollout = parse(data)
        require_contract_limits(rollout.contract)
        rollout = finished(rollout, NO_RULES)
    except RolloutError as error:
        return error.line(), error.incomplete
    columns = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
    flat = columns | columns.pop("reward_parts")
    return {
        name: (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
        for name, value in flat.items()
    }


def whole(data):
    return _parse_without_fast_path(data, NO_RULES)


def in_parts(data):
    return rollout_in_parts(as_utf8(data), NO_RULES)


def columns_of(n=64):
    rollout = make_rollout(n=n)
    finals = {"final_observations": rollout.observations[-4:], "final_agents": rollout.agents[-4:]}
    return dataclasses.replace(rollout, reward_parts={"speed": rollout.values}, **finals)


def files():
    """Return files of all kinds by name: good ones, and one for each reason to refuse a file."""
    found = {path.name: path.read_bytes() for path in [*CORPUS.iterdir(), *SAMPLES.rglob("*.json")]}
    found["v1"] = text = v1_bytes(n=64)
    found["v1, indented"] = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).replace(b"\n", b"\r\n\t")
    rows = orjson.loads(text)["experiences"]
    for name, changes in {
        "a missing reward": {"reward": None},
        "another width": {"state": [1.0]},
        "a text": {"reward": "much"},
        "a text that is a number": {"log_prob": "NaN"},
        "a flag": {"done": 2},
        "text agents": {"agent_index": "},{"},
        "a wrong agent": {"agent_index": 0.5},
        "objects in lists": {"debug": [{"a": 1}, {"b": [{}, {"c": "],["}]}, {"d": 2}]},
        "another spelling": {"logprob": 1.0, "log_prob": None},
        "another action": {"action": {"jump": 1.0}},
    }.items():
        found[f"v1, {name} in row 40"] = orjson.dumps({"experiences": [*rows[:40], rows[40] | changes, *rows[41:]]})
    for word in (b"nan", b"-nan(ind)", b"Infinity", b"1e999", b"1e" + b"9" * 30, b"9" * 400):
        found[f"v1, {word[:9]!r}"] = text.replace(b'"reward":', b'"reward":%b,"was":' % word, 30)
    pieces = text.split(b'"advantage"')
    twice = b'"advantage":1,"advantage"'
    found["v1, twice in row 40"] = b'"advantage"'.join(pieces[:40]) + twice + b'"advantage"'.join(pieces[40:])
    found["v1, other members"] = orjson.dumps(
        {"a": [{}], "b": {"experiences": 1}} | v1_document(make_rollout()) | {"z": 1}
    )
    found["v1, experiences twice"] = text[:-1] + b',"experiences":[]}'
    found["v2, lists"] = v2 = rollout_to_v2(columns_of(), rollout_id="x", base64_columns=False)
    found["v2, base64"] = rollout_to_v2(columns_of(), rollout_id="x", base64_columns=True)
    tree = orjson.loads(v2)
    for name, changes in {
        "ragged": {"observations": [*tree["observations"][:40], [1.0], *tree["observations"][41:]]},
        "short": {"rewards": tree["rewards"][:-1]},
        "a text": {"rewards": [*tree["rewards"][:40], "NaN", *tree["rewards"][41:]]},
        "text agents": {"agents": [f"a,{row % 3}" for row in range(64)], "final_observations": None},
        "an object in a column": {"values": [{}] * 64, "rewards": [*tree["rewards"][:40], {}, *tree["rewards"][41:]]},
        "flags": {"terminated": [0, 1] * 32, "truncated": [False] * 64},
        "nothing": {"observations": [[]] * 64},
        "another spelling": {"criticObservations": tree["observations"]},
        "critic observations": {"critic_observations": tree["observations"]},
        "a version": {"policy_version": 3, "noise_std": 0.5, "unknown": [{}] * 64},
    }.items():
        found[f"v2, {name}"] = orjson.dumps(tree | changes)
    found["v2, nan"] = v2.replace(b'"rewards":[', b'"rewards":[nan,').replace(b'"values":[', b'"values":[-inf,')
    return found


FILES = files()


@pytest.mark.fault(86)
def test_files_of_all_kinds_are_read_alike(small_parts):
    names = [name for name, data in FILES.items() if data and not data.startswith(b"\0")]
    outcomes = {name: (read(whole, FILES[name]), read(in_parts, FILES[name])) for name in names}
    assert [name for name, (one, other) in outcomes.items() if one != other and name not in OTHER_WORDS] == []
    taken = [name for name, (one, _) in outcomes.items() if isinstance(one, dict)]
    assert len(taken) > 30
    assert len(outcomes) - len(taken) > 60


@pytest.mark.fault(86)
def test_the_fast_reader_reads_parts_as_the_whole(small_parts, monkeypatch):
    read_in_parts = {name: read_v1_fast(data) for name, data in FILES.items()}
    monkeypatch.setattr(v1_fast, "WHOLE_BYTES", 1 << 30)
    fast = [name for name, data in FILES.items() if read_v1_fast(data) is not None]
    assert [name for name in fast if read_in_parts[name] is None] == []
    assert len(fast) > 5
    for name, data in FILES.items():
        if read_in_parts[name] is not None:
            assert read(lambda _, name=name: read_in_parts[name], data) == read(whole, data)


@pytest.mark.fault(86)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (
            b'{"experiences":[{"state":[' + b"nan," * 1_500_000 + b'0],"action":{"a":0},"reward":0,"done":0}]}',
            "E_TOO_BIG",
        ),
        (b"{" + b",".join(b'"%x":0' % name for name in range(200_000)) + b"}", "E_TOO_BIG"),
        (b'{"experiences":[' + b"{}," * 500_000 + b"{}]}", "E_SCHEMA"),
        (b'{"experiences":[' + b"0," * 900_000 + b"0]}", "E_SCHEMA"),
        (b"nan," * 400_000, "E_TRUNCATED"),
        (b'{"x":"' + b'":' * 700_000 + b'","experiences":[]}', "E_JSON"),
        (b'{"reward_parts":' + b'{"a":' * 900 + b"[" + b"0," * 600_000 + b"0]" + b"}" * 900 + b"}", "E_SCHEMA"),
        (b'{"experiences":[{"state":[1],"x":"\xff"}' + b" " * 1_100_000 + b"]}", "E_ENCODING"),
        (b'{"experiences":[{"state":[1],"x":"\\ud800"}' + b" " * 1_100_000 + b"]}", "E_ENCODING"),
        (b'{"experiences":[' + b" " * 1_100_000 + b"]}", "E_EMPTY"),
        (b'{"experiences":' + b"[" * 1_100_000, "E_DEPTH"),
    ],
)
def test_large_files_that_are_not_rollouts_are_refused_with_a_reason(data, code):
    with pytest.raises(RolloutError) as caught:
        _parse_without_fast_path(data, NO_RULES)
    assert caught.value.code == code
