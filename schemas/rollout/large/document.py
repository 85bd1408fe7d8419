"""The members of a large JSON object as positions in its text, after a check that the text is JSON."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from schemas.errors import RolloutError
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.encoding import (
    encoding_error,
    json_error,
    parse_value,
    require_utf8,
    too_deep,
    without_not_finite,
    without_too_large,
)
from schemas.rollout.large.parts import WHOLE_BYTES, ListText, after_space

_MISSING = msgspec.Raw(b"null")
_SKELETON: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("Skeleton", [("experiences", msgspec.Raw, _MISSING)], gc=False)
)
"""Finds this member and checks the syntax of all others, without objects for them."""
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
    """A large file's text as JSON, in which values that are not finite were replaced, and its members by name."""

    def __init__(self, text: bytes) -> None:
        """Raises RolloutError: E_TRUNCATED, E_JSON, E_DEPTH, E_ENCODING, E_DUPKEY; E_SCHEMA for another value."""
        require_utf8(text)
        begin = after_space(text, 0)
        first = text[begin : begin + 1]
        if first in {b"[", b'"'}:
            raise RolloutError("the file is not a JSON object", hint="see `hotlap docs formats`")
        if first != b"{":
            raise json_error(text, "Expecting an object", begin)
        try:
            found = _main_members(text)
        except RecursionError:
            raise too_deep() from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            text, found = _repaired(text)
        self.text = text
        self.experiences = found.get("experiences")
        self.members = found if has_few_names(text, 0, len(text)) else self._members_beside_experiences()
        self.is_first_version = self.experiences is not None and self._schema() == b"null"
        _require_unique_names(text, 0, len(text), self.members.values())

    def _members_beside_experiences(self) -> dict[str, tuple[int, int]]:
        """Return where the members are. Raises RolloutError (E_TOO_BIG, E_DUPKEY)."""
        begin, end = self.experiences or (0, 0)
        rest = b"%b0%b" % (self.text[:begin], self.text[end:]) if self.experiences else self.text
        inside = members(rest, 0, len(rest))
        moved = {
            name: (a, b) if b <= begin else (a - 1 + end - begin, b - 1 + end - begin)
            for name, (a, b) in inside.items()
        }
        return moved | ({"experiences": (begin, end)} if self.experiences else {})

    def _schema(self) -> bytes:
        begin, end = self.members.get("schema", (0, 0))
        return self.text[begin : min(end, begin + 5)] or b"null"


def _repaired(text: bytes) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Return a text without values that are not finite, and where its main members are. Raises RolloutError."""
    text = without_not_finite(text)
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return text, _main_members(text)
    text = without_too_large(text)
    return text, _checked(_main_members, text)


def has_few_names(text: bytes, begin: int, end: int) -> bool:
    """Return whether an object can be decoded by its members in little memory, because its text has few colons."""
    size = end - begin
    return size <= WHOLE_BYTES or text.count(b":", begin, end) * _BYTES_PER_NAME <= size


def _main_members(text: bytes) -> dict[str, tuple[int, int]]:
    """Return where the members are, or only the experiences if there are many names. Raises msgspec.DecodeError."""
    if has_few_names(text, 0, len(text)):
        return {name: _span(text, raw) for name, raw in _MEMBERS.decode(text).items()}
    skeleton = _SKELETON.decode(text)
    return {} if skeleton.experiences is _MISSING else {"experiences": _span(text, skeleton.experiences)}


def members(text: bytes, begin: int, end: int) -> dict[str, tuple[int, int]]:
    """Return where the values of an object's members are in a text. Raises RolloutError (E_TOO_BIG, E_DUPKEY)."""
    if not has_few_names(text, begin, end):
        names = sum(1 for _ in _NAME.finditer(text, begin, end))
        if names * _BYTES_PER_NAME > end - begin:
            raise RolloutError(
                f"it contains {names:,} names in {(end - begin) / 1e6:.0f} MB besides `experiences`",
                hint="write columns as lists or base64, not as objects",
                code="E_TOO_BIG",
            )
    decoded = _checked(_MEMBERS.decode, memoryview(text)[begin:end])
    found = {name: _span(text, raw) for name, raw in decoded.items()}
    _require_unique_names(text, begin, end, found.values())
    return found


def _checked(decode: Callable[[Any], Any], text: bytes | memoryview) -> Any:
    """Return the decoded text. Raises RolloutError."""
    try:
        return decode(text)
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
