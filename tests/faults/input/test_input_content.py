"""Files that are cut, empty, in any encoding, or have wrong content (fault table, rows 1, 9 to 11 and 17 to 19)."""

from __future__ import annotations

import base64
import codecs
import dataclasses
import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RolloutError
from schemas.rollout.cache import load_rollout
from schemas.rollout.reader import read_rollout
from schemas.storage.files import sha256_of
from tests.faults.support.inputs import outcome, reasons, refusal, v1, v2
from tests.helpers import v1_bytes, write_rollout

SMALL = v1_bytes(n=8)


def cached(harness, data: bytes):
    rollout = load_rollout(harness.paths.cached_rollout(sha256_of(data)))
    assert rollout is not None
    return rollout


@pytest.mark.fault(1)
def test_files_that_end_early_are_rejected_after_their_time_and_never_counted(make_input_harness):
    harness = make_input_harness(incomplete_timeout_s=60.0, auto_train_after_n_rollouts=100)
    cuts = [0, 1, 2, len(SMALL) // 3, len(SMALL) // 2, len(SMALL) - 40, len(SMALL) - 1]
    for number, cut in enumerate(cuts):
        write_rollout(harness.paths.exports, number, SMALL[:cut])
    write_rollout(harness.paths.exports, 99)
    began = harness.clock.now
    harness.until(lambda: len(harness.inbox.incomplete) == len(cuts) and harness.ledger.pending_count() == 1)
    while harness.clock.now < began + 59.0:
        harness.tick()
    assert harness.ledger.rejected_count() == 0
    harness.until(lambda: harness.ledger.rejected_count() == len(cuts))
    assert set(reasons(harness).values()) == {"E_TRUNCATED", "E_EMPTY"}
    assert (harness.ledger.pending_count(), harness.failures) == (1, [])


@pytest.mark.fault(1)
@given(st.sampled_from([SMALL, orjson.dumps(v2()), json.dumps(v1(), indent=1).encode()]), st.data())
@settings(max_examples=60, deadline=None)
def test_a_document_cut_at_any_byte_is_incomplete(document, data):
    cut = document[: data.draw(st.integers(0, len(document) - 1))]
    assert refusal(cut).incomplete
    assert refusal(codecs.BOM_UTF16_LE + cut.decode().encode("utf-16-le")).incomplete


@pytest.mark.fault(1)
def test_a_file_cut_inside_a_character_is_incomplete():
    text = json.dumps(v1(lambda d, e: d.update(level="Nürburgring")), ensure_ascii=False).encode()
    cut = text[: text.index("ü".encode()) + 1]
    assert refusal(cut).incomplete
    assert read_rollout(text).size == 8


@pytest.mark.fault(9)
def test_an_empty_file_is_rejected_after_its_timeout_with_the_reason_for_unreal(make_input_harness):
    harness = make_input_harness(incomplete_timeout_s=5.0)
    write_rollout(harness.paths.exports, 1, b"")
    harness.until(lambda: harness.inbox.incomplete and not harness.inbox._reader.is_busy)
    assert harness.ledger.rejected_count() == 0
    harness.until(lambda: harness.ledger.rejected_count() == 1)
    [(name, code)] = reasons(harness).items()
    assert code == "E_EMPTY"
    assert "SaveStringToFile" in (harness.paths.rejected / f"{name}.reason.txt").read_text(encoding="utf-8")


@pytest.mark.fault(9)
@pytest.mark.parametrize("data", [b" \r\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE + b"\0 "])
def test_a_file_of_white_space_and_byte_order_marks_is_empty(data):
    assert refusal(data).code == "E_EMPTY"


@pytest.mark.fault(10)
def test_allocated_but_unwritten_space_is_not_read_as_text(make_input_harness):
    harness = make_input_harness(incomplete_timeout_s=5.0)
    for number, written in enumerate([b"", SMALL[: len(SMALL) // 2], SMALL]):
        path = write_rollout(harness.paths.exports, number, written)
        with path.open("r+b") as file:
            file.truncate(1 << 20)
    harness.until(lambda: harness.ledger.rejected_count() == 3)
    assert set(reasons(harness).values()) == {"E_NUL"}


ENCODINGS = {
    "utf-8 with a BOM": (codecs.BOM_UTF8, "utf-8"),
    "utf-16-le with a BOM": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "utf-16-be with a BOM": (codecs.BOM_UTF16_BE, "utf-16-be"),
    "utf-32-le with a BOM": (codecs.BOM_UTF32_LE, "utf-32-le"),
    "utf-32-be with a BOM": (codecs.BOM_UTF32_BE, "utf-32-be"),
    "utf-16-le": (b"", "utf-16-le"),
    "utf-16-be": (b"", "utf-16-be"),
    "utf-32-le": (b"", "utf-32-le"),
    "utf-32-be": (b"", "utf-32-be"),
}


@pytest.mark.fault(11)
def test_every_encoding_gives_the_same_arrays_and_the_remedy_is_logged_once(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=100)
    text = json.dumps(v1(lambda d, e: d.update(level="Nürburgring \N{CHEQUERED FLAG}")), ensure_ascii=False)
    files = {name: bom + text.encode(encoding) for name, (bom, encoding) in ENCODINGS.items()}
    for number, data in enumerate(files.values()):
        write_rollout(harness.paths.exports, number, data)
    harness.until(lambda: len(harness.ledger.files()) == len(files))
    assert harness.ledger.pending_count() == len(files)
    plain = read_rollout(text.encode())
    for data in files.values():
        rollout = cached(harness, data)
        for field in dataclasses.fields(plain):
            if field.name != "states_bounds":
                np.testing.assert_array_equal(getattr(rollout, field.name), getattr(plain, field.name))
    assert sum("ForceUTF8WithoutBOM" in line for line in harness.log.lines) == 1


@pytest.mark.fault(17)
def test_lone_surrogates_and_nul_are_refused_or_kept_out_of_the_ledger(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=100)
    named = {
        "half": rb"\ud800",
        "low half": rb"\udfff",
        "nul": rb"\u0000",
        "escape": rb"\u001b[2J",
        "bidi": rb"\u202e",
        "empty": b"",
        "long": b"x" * 200,
    }
    for number, name in enumerate(named.values()):
        write_rollout(harness.paths.exports, number, SMALL.replace(b'"steer"', b'"' + name + b'"'))
    for number, name in enumerate(named.values(), 50):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number).replace(b"2026.11", name))
    harness.until(lambda: harness.ledger.rejected_count() == len(named) + 2)
    harness.until(lambda: harness.ledger.pending_count() == len(named) - 2)
    assert set(reasons(harness).values()) == {"E_ENCODING", "E_SCHEMA"}
    assert harness.failures == []
    assert all(line.isprintable() for line in harness.log.lines)


def test_a_reward_part_with_an_unprintable_name_is_refused():
    document = v2(lambda d: d.update(reward_parts={"\x1b[2J": [0.0] * 8}))
    assert refusal(orjson.dumps(document)).code == "E_SCHEMA"


WRONG = st.sampled_from(["x", True, None, [], {}, [[]], {"a": 1}, [1, "x"], "1.5", [True] * 15, -1, 0.5, 99])
V1_FIELDS = ["state", "action", "reward", "done", "log_prob", "value"]
V2_FIELDS = ["observations", "actions", "rewards", "terminated", "truncated", "log_probs", "values", "agents"]


@pytest.mark.fault(18)
@given(st.sampled_from(V1_FIELDS), st.integers(0, 7), st.one_of(st.none(), st.tuples(WRONG)))
@settings(max_examples=150, deadline=None)
def test_one_wrong_field_of_version_1_is_named_or_harmless(field, index, wrong):
    document = v1()
    experience = document["experiences"][index]
    if wrong is None:
        del experience[field]
    else:
        experience[field] = wrong[0]
    found = outcome(orjson.dumps(document))
    if isinstance(found, RolloutError):
        assert found.code == "E_SCHEMA"
        assert f"`{field}`" in found.message
        assert not found.incomplete
    elif field in {"log_prob", "value"}:  # not needed
        assert (found.size, found.left_out) == (8, 0)
    else:
        kinds = {"done": {bool}}.get(field, {int, float, type(None)})
        assert field not in {"state", "action"}
        assert type(wrong[0]) in kinds
        assert found.size + found.left_out == 8


@pytest.mark.fault(18)
@given(st.sampled_from(V2_FIELDS), st.integers(0, 7), st.one_of(st.none(), st.tuples(WRONG)), st.booleans())
@settings(max_examples=150, deadline=None)
def test_one_wrong_field_of_version_2_is_named_or_harmless(field, index, wrong, is_whole):
    document = v2()
    if wrong is None:
        del document[field]
    elif is_whole:
        document[field] = wrong[0]
    else:
        document[field][index] = wrong[0]
    found = outcome(orjson.dumps(document))
    if isinstance(found, RolloutError):
        assert found.code in {"E_SCHEMA", "E_EMPTY"}
        assert f"`{field}`" in found.message
    elif field in {"truncated", "log_probs", "values", "agents"}:  # not needed
        assert (found.size, found.left_out) == (8, 0)
    else:
        assert wrong is not None
        assert not is_whole
        assert found.size + found.left_out == 8


@pytest.mark.fault(18)
@pytest.mark.parametrize("schema", ["hotlap.rollout/99", 2, ["hotlap.rollout/2"], {"a": "b"}, "x" * 10_000])
def test_an_unknown_schema_is_refused_in_a_line(schema):
    error = refusal(orjson.dumps(v2(lambda d: d.update(schema=schema))))
    assert error.code == "E_VERSION"
    assert len(error.line()) < 300


@pytest.mark.fault(18)
@pytest.mark.parametrize("kind", ["f4", "|O", "<f4,<f4", [], {"a": 1}, None, 7])
def test_an_unknown_kind_of_column_is_refused(kind):
    data = base64.b64encode(bytes(32)).decode()
    error = refusal(orjson.dumps(v2(lambda d: d.update(rewards={"dtype": kind, "shape": [8], "data": data}))))
    assert error.code == "E_SCHEMA"
    assert "`rewards`" in error.message


@pytest.mark.fault(18)
@pytest.mark.parametrize("finals", [5, "x", True, [1, 2], {"x": [0.0] * 15}, {"9" * 30: [0.0] * 15}, {"1": 0, "2": []}])
def test_final_observations_of_any_other_form_are_refused(finals):
    error = refusal(orjson.dumps(v2(lambda d: d.update(final_observations=finals))))
    assert "`final_observations`" in error.message


@pytest.mark.fault(18)
def test_an_agent_has_one_final_observation():
    finals = {"1": [0.0] * 15, "01": [1.0] * 15}
    assert "twice" in refusal(orjson.dumps(v2(lambda d: d.update(final_observations=finals)))).message


@pytest.mark.fault(18)
def test_a_bad_file_does_not_affect_other_files(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=3)
    for number, change in enumerate([lambda d, e: e[0].pop("reward"), lambda d, e: e[7].update(done="yes")], 10):
        write_rollout(harness.paths.exports, number, orjson.dumps(v1(change)))
    harness.write_rollouts(1, 2, 3)
    harness.until_version(1)
    assert harness.ledger.rejected_count() == 2
    assert len(harness.ledger.rollouts_of(1)) == 3


@pytest.mark.fault(19)
def test_rollouts_of_another_size_are_rejected_with_a_reason_and_never_mixed(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=7)
    jobs = harness.watch_jobs()
    for number in range(4):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number, n=8, observation_size=10))
    harness.until(lambda: harness.ledger.pending_count() == 4 and not harness.runner.busy)
    for number in range(4, 7):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number, n=8, observation_size=12))
    harness.until(lambda: harness.ledger.rejected_count() == 3)
    assert set(reasons(harness).values()) == {"E_CONTRACT"}
    assert "12 observations instead of 10" in harness.log.lines[-1]
    for number in range(7, 10):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number, n=8, observation_size=10))
    harness.until(lambda: harness.ledger.has_trained() and not harness.runner.busy)
    shapes = {load_rollout(harness.paths.cached_rollout(r.sha256)).observations.shape for r in jobs[-1].rollouts}
    assert (shapes, len(jobs[-1].rollouts)) == ({(8, 10)}, 7)


@pytest.mark.fault(19)
def test_sizes_that_arrive_together_are_never_mixed(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=100)
    for number in range(6):
        write_rollout(harness.paths.exports, number, v1_bytes(seed=number, n=8, observation_size=10 + 2 * (number % 2)))
    harness.until(lambda: harness.ledger.pending_count() == 6)
    harness.service.trigger("trigger")
    harness.until(lambda: harness.ledger.rejected_count() == 3 and harness.ledger.has_trained())
    assert len({load_rollout(path).observations.shape[1] for path in _cached_pending(harness)}) == 1


def _cached_pending(harness):
    rows = harness.ledger._db.execute("SELECT sha256 FROM rollout")
    return [harness.paths.cached_rollout(row[0]) for row in rows]


@pytest.mark.fault(11)
@pytest.mark.parametrize("key", [b'"throttle"', b'"advantage"', b'"reward"'])
def test_a_byte_that_is_not_utf8_far_into_a_long_file_is_refused(key):
    data = v1_bytes(n=256)
    place = data.rindex(key)
    assert place > 1 << 16  # beyond what the fast reader checks first
    error = refusal(data[: place + 3] + b"\xe7" + data[place + 4 :])
    assert error.code == "E_ENCODING"
