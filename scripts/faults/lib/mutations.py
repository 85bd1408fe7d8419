"""Mutated rollout files: valid files of both versions with random changes."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trainer.simulate import rollout_file

MAX_BYTES = 1 << 20
"""The size limit of mutated files. Larger files have tests of their own."""

_TOKENS = (
    *(b"nan", b"-nan(ind)", b"Infinity", b"-inf", b"1.#INF", b"1e999", b"-1e999", b"1e-999", b"5e-324", b"-0.0"),
    *(b"null", b"true", b"{}", b"[]", b'""', b"0", b"-1", b"1e13", b"18446744073709551616", b"9" * 400, b"1.5", b"01"),
    *(rb'"\ud800"', rb'"\u0000"', b'"\xff"', b"\0", b"\0\0\0\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[2J", b"//"),
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"[" * 2000, b'{"a":' * 1100, b"]}", b'"reward":', b'"schema":'),
    *(b'"state":[],', b'"dtype":"<f4"', b'"shape":[1]', b'"data":"AAAA"', b"/*", b"\xe2\x80\xa8", b"\xed\xa0\x80"),
)
_ENCODINGS = (
    (b"", "utf-16-le"),
    (b"", "utf-16-be"),
    (b"", "utf-32-le"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (b"", "cp1252"),
)
_ODD_VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.choice([True, False]),
    lambda rng: rng.choice([0, -1, 1, 2, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400]),
    lambda rng: rng.choice([0.5, -0.0, 1e12, 1.1e12, 1e38, 1e39, 1e308, 5e-324, float("nan"), float("inf")]),
    lambda rng: rng.choice(["", "x", "1.5", "\0", "\x1b[2J", "\u202e", "\ud800", "a" * 200, "12:00", "<f4", "AAAA"]),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [rng.choice([0.0, None, "x", True, [], {}])] * rng.randrange(1, 20),
    lambda rng: [[0.0] * rng.randrange(0, 4)] * rng.randrange(1, 9),
    lambda rng: {
        rng.choice(["", "0", "-1", "01", "9" * 30, "1.5", "x:y", "n", "type"]): rng.choice([0, None, [], "x"])
    },
    lambda rng: {
        "dtype": rng.choice(["<f4", "<f8", "|b1", "<i8", "|O", ">f4", "<U5", None, []]),
        "shape": rng.choice([[0], [8], [8, 15], [1] * 70, [-1], [2**40], "8", None, [8.0], [True]]),
        "data": rng.choice(["", "AAAA", "AAAA" * 10, "????", "=", "é", None, 5]),
    },
)


def seeds() -> tuple[bytes, ...]:
    """Return small valid files: version 1 as Unreal and as others write it, version 2 with lists and with base64."""
    rng, n, size, agents = np.random.default_rng(4), 8, 15, 2
    rollout = rollout_file.ExportedRollout(
        observations=rng.normal(size=(n, size)).astype(np.float32),
        actions=rng.uniform(0.0, 1.0, size=(n, 3)).astype(np.float32),
        rewards=rng.normal(size=n).astype(np.float32),
        terminated=rng.random(n) < 0.3,
        truncated=np.zeros(n, dtype=bool),
        log_probs=rng.normal(size=n).astype(np.float32),
        values=rng.normal(size=n).astype(np.float32),
        agents=(np.arange(n) % agents).astype(np.int32),
        action_names=("steer", "throttle", "brake"),
        action_low=(-1.0, 0.0, 0.0),
        action_high=(1.0, 1.0, 1.0),
        final_observations=rng.normal(size=(agents, size)).astype(np.float32),
        reward_parts={"speed": rng.normal(size=n).astype(np.float32)},
        critic_observations=rng.normal(size=(n, 2)).astype(np.float32),
        final_critic_observations=rng.normal(size=(agents, 2)).astype(np.float32),
        policy_version=3,
        noise_std=0.5,
    )
    unreal = rollout_file.encode_text(rollout_file.version_1(rollout, datetime(2026, 11, 21, tzinfo=UTC)))
    lists = rollout_file.version_2(rollout, "r", as_base64=False).encode()
    discrete = json.loads(lists) | {"action_space": {"n": 3}, "actions": [0, 1, 2, 0, 1, 2, 0, 1]}
    return (
        unreal,
        json.dumps(json.loads(unreal)).encode(),
        lists,
        rollout_file.version_2(rollout, "r", as_base64=True).encode(),
        json.dumps(discrete).encode(),
    )


def mutated(rng: random.Random, pool: Sequence[bytes]) -> bytes:
    """Return one of the files after one to six mutations."""
    data = rng.choice(pool)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        mutate = rng.choice(_MUTATIONS)
        data = mutate(rng, data, pool)[:MAX_BYTES]
    return data


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice((1, 2, 4, 16, 64, 1000)))


def _flip(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    begin, _ = _span(rng, data)
    return data[:begin] + bytes([rng.randrange(256)]) + data[begin + 1 :]


def _cut_out(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + data[end:]


def _repeat(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + data[begin:end] * rng.choice((2, 3, 50)) + data[end:]


def _truncate(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _blank(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + bytes(end - begin) + data[end:]


def _insert_token(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    begin, _ = _span(rng, data)
    return data[:begin] + rng.choice(_TOKENS) + data[begin:]


def _replace_number(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    """Replace a value, which follows a colon, a comma or a bracket, by a token."""
    begin, _ = _span(rng, data)
    while begin < len(data) and data[begin] not in b":,[":
        begin += 1
    end = begin + 1
    while end < len(data) and data[end] not in b",]}":
        end += 1
    return data[: begin + 1] + rng.choice(_TOKENS) + data[end:]


def _splice(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    other = rng.choice(pool)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _change_encoding(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    bom, encoding = rng.choice(_ENCODINGS)
    return bom + data.decode("utf-8", "replace").encode(encoding, "replace")


def _change_document(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    """Replace a value by an unexpected one, remove or repeat a value, or add a name."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(rng, data, pool)
    place = document
    while isinstance(place, dict | list) and place:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        child = place[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.3:
            match rng.randrange(4):
                case 0:
                    del place[key]
                case 1 if isinstance(place, dict):
                    place[rng.choice(["x", "", "schema", "a:b", "\0"])] = rng.choice(_ODD_VALUES)(rng)
                case 2 if isinstance(place, list):
                    place.insert(key, child)
                case _:
                    place[key] = rng.choice(_ODD_VALUES)(rng)
            break
        place = child
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):
        return data


def _duplicate_key(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    colon = data.find(b":", rng.randrange(len(data) + 1))
    begin = data.rfind(b'"', 0, max(0, data.rfind(b'"', 0, max(0, colon))))
    return data if min(colon, begin) < 0 else data[:begin] + data[begin:colon] + b":0," + data[begin:]


_MUTATIONS = (
    _flip,
    _cut_out,
    _repeat,
    _truncate,
    _blank,
    _insert_token,
    _replace_number,
    _splice,
    _change_encoding,
    _change_document,
    _change_document,
    _change_document,
    _duplicate_key,
)
