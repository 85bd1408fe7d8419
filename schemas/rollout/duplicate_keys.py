"""Telling that no object of a rollout file names a key twice: quickly where the file is regular."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from schemas.errors import RolloutError

_COLON = ord(":")
_WINDOW, _LARGE_WINDOW = 1 << 16, 1 << 22  #: bytes; in these the first experience is looked for
_LIST_ENDS = re.compile(rb"\s*\]")


class _TwiceError(ValueError):
    """A key stands twice in one object."""


def require_unique_keys(text: bytes, document: Any) -> None:
    """Refuse a document whose text names a key twice in one object. Raises RolloutError (E_DUPKEY).

    `document` is what a parser made of `text`. Each key costs one colon; so where the text has no more colons than
    the parsed document accounts for, no key was lost. Only otherwise is the text read again, slowly.
    """
    if _colons(text) == _accounted_for(document):
        return
    try:
        json.loads(text, object_pairs_hook=_unique, parse_int=float)
    except _TwiceError as error:
        raise RolloutError(
            f"it names {error} twice in one object", hint="write every key once", code="E_DUPKEY"
        ) from None
    except RecursionError:
        raise RolloutError("it is nested too deep", hint="write flat lists", code="E_DEPTH") from None


def first_experience(data: bytes) -> tuple[dict[str, Any], int] | None:
    """Return a version 1 file's first experience and how many colons it is written with; None where that is in doubt."""
    begin = max(0, data.find(b"{", data.find(b"[")))
    for window in (_WINDOW, _LARGE_WINDOW):
        try:
            text = data[begin : begin + window].decode("ascii")
            experience, end = json.JSONDecoder(object_pairs_hook=_unique).raw_decode(text)
        except (ValueError, RecursionError):
            continue
        return (experience, text.count(":", 0, end)) if isinstance(experience, dict) else None
    return None


def has_keys_once(data: bytes, experiences: int, colons_each: int) -> bool:
    """Return whether a version 1 file surely names no key twice.

    `data` starts with `{"experiences":`, and every experience is known to name all that the first one does, which
    takes `colons_each` colons. Where no more of them are in the file, none names anything else or anything twice.
    """
    end_of_last = data.rfind(b"}", 0, data.rfind(b"]"))
    tail = data[end_of_last + 1 :]
    if end_of_last < 0 or len(tail) > _WINDOW or not _LIST_ENDS.match(tail):
        return False
    try:
        json.loads(b'{"experiences":[' + tail, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return False
    return _colons(data) == 1 + experiences * colons_each + tail.count(b":")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"`{next(name for name in names if names.count(name) > 1)[:100]}`")
    return whole


def _colons(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == _COLON))


def _accounted_for(document: Any) -> int:
    """Return the colons that a document without lost keys was written with; lists of lists are not looked into."""
    count, left = 0, [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            count += len(value) + sum(name.count(":") for name in value)
            left.extend(value.values())
        elif isinstance(value, str):
            count += value.count(":") if ":" in value else 0  # a column of base64 is searched much faster than counted
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            left.extend(value)
    return count
