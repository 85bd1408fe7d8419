"""The members of a large JSON object as positions in its text, after a check that the text is JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from schemas.errors import RolloutError
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.encoding import encoding_error, json_error, parse_value, require_utf8, too_deep, without_not_finite
from schemas.rollout.large.parts import WHOLE_BYTES, ListText, after_space

_MISSING = msgspec.Raw(b"null")
_SKELETON = msgspec.json.Decoder(
    msgspec.defstruct("Skeleton", [("schema", msgspec.Raw, _MISSING), ("experiences", msgspec.Raw, _MISSING)], gc=False)
)
"""Finds these members and checks the syntax of all others, without objects for them."""
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_POSITION = re.compile(r" \(byte (\d+)\)$")
_NAME = re.compile(rb'"[ \t\r\n]*:')
_SPACES = re.compile(rb"[ \t\r\n]+")
_BYTES_PER_NAME = 32
"""A name takes up to 300 bytes of memory. Files with fewer bytes for each are refused; a usual one has a hundred."""
_SHORT_LIST_BYTES = 1 << 16
_DEEPEST = 3
"""Objects in objects: a column in base64 in the parts of a reward has two levels."""


class LargeDocument:
    """A large file's text as JSON, in which values that are not finite were replaced, and its two main members."""

    def __init__(self, text: bytes) -> None:
        """Raises RolloutError: E_TRUNCATED, E_JSON, E_DEPTH, E_ENCODING, and E_SCHEMA if it is not an object."""
        require_utf8(text)
        begin = after_space(text, 0)
        first = text[begin : begin + 1]
        if first in {b"[", b'"'}:
            raise RolloutError("the file is not a JSON object", hint="see `hotlap docs formats`")
        if first != b"{":
            raise json_error(
                text, "Expecting an object", after_space(text, 0) if text[-64:].strip()[-1:] == b"}" else 0
            )
        try:
            skeleton = _SKELETON.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = without_not_finite(text)
            skeleton = _decoded(_SKELETON, text)
        self.text = text
        self.experiences = None if skeleton.experiences is _MISSING else _span(text, skeleton.experiences)
        self.has_schema = bytes(memoryview(skeleton.schema)[:5]) != b"null"

    def members(self, *, without: tuple[int, int] | None = None) -> dict[str, tuple[int, int]]:
        """Return the members of the object by name, without the value at a position. Raises RolloutError."""
        if without is None:
            return members(self.text, 0, len(self.text))
        begin, end = without
        return members(b"%b0%b" % (self.text[:begin], self.text[end:]), 0, None)


def members(text: bytes, begin: int, end: int | None) -> dict[str, tuple[int, int]]:
    """Return where the values of an object's members are in a text. Raises RolloutError (E_TOO_BIG, E_DUPKEY)."""
    whole = memoryview(text)[begin:end]
    if len(whole) > WHOLE_BYTES and text.count(b":", begin, end) * _BYTES_PER_NAME > len(whole):
        names = sum(1 for _ in _NAME.finditer(text, begin, len(text) if end is None else end))
        if names * _BYTES_PER_NAME > len(whole):
            raise RolloutError(
                f"it contains {names:,} names in {len(whole) / 1e6:.0f} MB besides `experiences`",
                hint="write columns as lists or base64, not as objects",
                code="E_TOO_BIG",
            )
    found = {name: _span(text, raw) for name, raw in _decoded(_MEMBERS, whole).items()}
    _require_unique_names(text, begin, len(text) if end is None else end, found.values())
    return found


def _decoded(decoder: Any, text: bytes | memoryview) -> Any:
    """Return the decoded text. Raises RolloutError."""
    try:
        return decoder.decode(text)
    except RecursionError:
        raise too_deep() from None
    except UnicodeDecodeError:
        raise encoding_error(bytes(text), "a name is not valid UTF-8") from None
    except msgspec.DecodeError as error:
        found = _POSITION.search(str(error))
        if found is None and "truncated" not in str(error):
            raise RolloutError(f"it is not JSON: {error}", hint="correct the exporter", code="E_JSON") from None
        reason = str(error)[: found.start()].removeprefix("JSON is malformed: ") if found else ""
        raise json_error(bytes(text), reason, int(found[1]) if found else None) from None


def _span(text: bytes, raw: msgspec.Raw) -> tuple[int, int]:
    """Return where a decoded value is in its text."""
    begin = _address(raw) - _address(text)
    return begin, begin + memoryview(raw).nbytes


def _address(data: Any) -> int:
    return int(np.frombuffer(data, dtype=np.uint8).__array_interface__["data"][0])


def _require_unique_names(text: bytes, begin: int, end: int, spans: Iterable[tuple[int, int]]) -> None:
    """Raise RolloutError (E_DUPKEY) if an object contains a name twice: the text of the earlier value has no span."""
    pieces, position = [], begin
    for first, last in sorted(spans):
        pieces.append(_SPACES.sub(b" ", text[position:first]))
        position = last
    pieces.append(_SPACES.sub(b" ", text[position:end]))
    names = b"0".join(pieces)
    if len(names) > max(WHOLE_BYTES, (end - begin) // 2):
        raise RolloutError("an object contains a key twice", hint="write every key once", code="E_DUPKEY")
    require_unique_keys(names, json.loads(names))


def value_of(text: bytes, span: tuple[int, int], name: str, depth: int = 0) -> Any:
    """Return the value of a member: a long list as a ListText, a large object by its members. Raises RolloutError."""
    if depth > _DEEPEST:
        raise too_deep()
    begin, end = span
    first = text[begin : begin + 1]
    if end - begin > _SHORT_LIST_BYTES and first == b"[":
        return ListText.of(text, begin, end, name)
    if end - begin > _SHORT_LIST_BYTES and first == b"{":
        found = members(text, begin, end).items()
        return {key: value_of(text, inner, f"{name}.{key[:40]}", depth + 1) for key, inner in found}
    part = b"[%b]" % text[begin:end]
    try:
        [value] = parse_value(part)
    except ValueError as error:
        raise encoding_error(part, str(error)) from None
    if first in {b"{", b"["}:
        require_unique_keys(part, [value])
    return value
