"""Check that no object of a rollout file contains a key twice; fast for regular files."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from schemas.errors import RolloutError

_COLON = ord(":")
_WINDOW, _LARGE_WINDOW = 1 << 16, 1 << 22  #: bytes that are searched for the first experience
_LIST_ENDS = re.compile(rb"\s*\]")


class _DuplicateKeyError(ValueError):
    """An object contains a key twice; the message is the key."""


def require_unique_keys(text: bytes, document: Any) -> None:
    """Raise RolloutError (E_DUPKEY) if an object of a document contains a key twice.

    `document` is the parsed `text`. Each key is followed by one colon, so if the text has as many colons as the parsed
    document needs, no key was lost. Otherwise the text is parsed again, which is slow.
    """
    if _count_colons(text) == _expected_colons(document):
        return
    try:
        json.loads(text, object_pairs_hook=_dict_of, parse_int=float)
    except _DuplicateKeyError as error:
        raise RolloutError(
            f"an object contains the key {error} twice", hint="write every key once", code="E_DUPKEY"
        ) from None
    except RecursionError:
        raise RolloutError("it is nested too deeply", hint="write flat lists", code="E_DEPTH") from None


def first_experience(data: bytes) -> tuple[dict[str, Any], int] | None:
    """Return the first experience of a version 1 file and the colons in its text; None if it cannot be determined."""
    begin = max(0, data.find(b"{", data.find(b"[")))
    for window in (_WINDOW, _LARGE_WINDOW):
        try:
            text = data[begin : begin + window].decode("ascii")
            experience, end = json.JSONDecoder(object_pairs_hook=_dict_of).raw_decode(text)
        except (ValueError, RecursionError):
            continue
        return (experience, text.count(":", 0, end)) if isinstance(experience, dict) else None
    return None


def has_unique_keys(data: bytes, experiences: int, colons_each: int) -> bool:
    """Return whether a version 1 file certainly contains no key twice.

    `data` starts with `{"experiences":`, and every experience is known to have all keys of the first one, which take
    `colons_each` colons. If the file has no more colons, no experience has another key, or a key twice.
    """
    end_of_last = data.rfind(b"}", 0, data.rfind(b"]"))
    tail = data[end_of_last + 1 :]
    if end_of_last < 0 or len(tail) > _WINDOW or not _LIST_ENDS.match(tail):
        return False
    try:
        json.loads(b'{"experiences":[' + tail, object_pairs_hook=_dict_of)
    except (ValueError, RecursionError):
        return False
    return _count_colons(data) == 1 + experiences * colons_each + tail.count(b":")


def _dict_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the dict of key-value pairs. Raises _DuplicateKeyError."""
    merged = dict(pairs)
    if len(merged) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(f"`{next(name for name in names if names.count(name) > 1)[:100]}`")
    return merged


def _count_colons(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == _COLON))


def _expected_colons(document: Any) -> int:
    """Return how many colons the text of a document has if no key was lost; lists of lists are not searched."""
    count, remaining = 0, [document]
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            count += len(value) + sum(name.count(":") for name in value)
            remaining.extend(value.values())
        elif isinstance(value, str):
            count += value.count(":") if ":" in value else 0  # searching a base64 column is much faster than counting
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            remaining.extend(value)
    return count
