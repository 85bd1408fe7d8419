"""Files as exporters of other engines and libraries write them, from public bug reports: read, or refused by cause."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from schemas.errors import RolloutError
from schemas.rollout.reader import read_rollout
from tests.helpers import v1_bytes

PLAIN = v1_bytes(seed=1)


def changed(change) -> bytes:
    """Return the plain rollout after `change` was called with each of its experiences."""
    document = json.loads(PLAIN)
    for experience in document["experiences"]:
        change(experience)
    return json.dumps(document).encode()


def renamed(**names: str) -> bytes:
    return changed(lambda e: [e.update({new: e.pop(old)}) for old, new in names.items()])


def decimal_commas(text: bytes) -> bytes:
    return re.sub(rb"(\d)\.(\d)", rb"\1,\2", text)


REFUSED = {
    "decimal commas of the system's language": (decimal_commas(PLAIN), "a decimal comma? write 0.5 and not 0,5"),
    "camelCase names of Unreal's converter": (
        renamed(log_prob="logProb", agent_index="agentIndex"),
        "the experiences have `logProb` instead of `log_prob` -> name it `log_prob`",
    ),
    "a camelCase index alone": (renamed(agent_index="agentIndex"), "`agentIndex` instead of `agent_index`"),
    "PascalCase names": (renamed(state="State"), "`State` instead of `state`"),
    "another list name": (PLAIN.replace(b'"experiences"', b'"Experiences"'), "name `Experiences` `experiences`"),
    "flags as text": (changed(lambda e: e.update(done="false")), "`done` is 'false' in experience 0 -> write true or"),
    "two documents in one file": (PLAIN + PLAIN, "it is not JSON: Extra data"),
    "one experience in each line": (
        b"\n".join(json.dumps(e).encode() for e in json.loads(PLAIN)["experiences"]),
        "it is not JSON: Extra data in line 2",
    ),
    "a Python literal": (repr(json.loads(PLAIN)).encode(), "it is not JSON"),
    "a compressed file": (gzip.compress(PLAIN), "it is not valid utf-8"),
    "nested observations": (
        changed(lambda e: e.update(state=[e["state"][:3], e["state"][3:]])),
        "`state` contains list instead of a number in experience 0",
    ),
    "a missing reward": (changed(lambda e: e.pop("reward")), "experience 0 has no `reward`"),
    "an empty buffer": (b'{"experiences": [], "num_experiences": 0}', "export at least one step"),
}
ACCEPTED = {
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "flags and indices as reals": changed(
        lambda e: e.update(done=float(e["done"]), agent_index=float(e["agent_index"]))
    ),
    "flags as 0 and 1": changed(lambda e: e.update(done=int(e["done"]))),
    "other fields beside ours": changed(lambda e: e.update(info={"speed": 1}, Value=2)),
}


@pytest.mark.parametrize(("data", "words"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_meant_is_refused_with_its_cause(data, words):
    with pytest.raises(RolloutError) as refused:
        read_rollout(data)
    assert words in refused.value.line()


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_what_can_only_mean_one_thing_is_read(data):
    expected, rollout = read_rollout(PLAIN), read_rollout(data)
    assert rollout.contract == expected.contract
    assert rollout.size == expected.size
    assert (rollout.terminated == expected.terminated).all()
    assert (rollout.agents == expected.agents).all()
