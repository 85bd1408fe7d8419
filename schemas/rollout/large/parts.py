"""A long JSON list as parts that are parsed one after the other.

A parser's objects take up to 50 times the size of their text: an empty object of two bytes becomes one of 64.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.errors import RolloutError
from schemas.rollout.encoding import encoding_error, parse_value

WHOLE_BYTES = 1 << 20
"""Smaller files are parsed at once."""
PART_BYTES = 1 << 19
MAX_PART_BYTES = 1 << 22
"""More than the text of one experience with the largest observation; a list that cannot be divided so is refused."""
_SPACE = re.compile(rb"[ \t\r\n]*")
BETWEEN_OBJECTS = re.compile(rb"\}([ \t\r\n]*,[ \t\r\n]*)\{")
_BETWEEN_LISTS = re.compile(rb"\]([ \t\r\n]*,[ \t\r\n]*)\[")
_COMMA = re.compile(rb"(,)")


@dataclass(frozen=True, slots=True)
class ListText:
    """A JSON list in a text that is known to be JSON. `begin` and `end` exclude the brackets and the space in them."""

    text: bytes
    begin: int
    end: int
    name: str  #: for messages

    @classmethod
    def of(cls, text: bytes, begin: int, end: int, name: str) -> ListText:
        """Return the list whose brackets are the first and the last byte from `begin` to `end`."""
        begin, end = after_space(text, begin + 1), end - 1
        while end > begin and text[end - 1] in b" \t\r\n":
            end -= 1
        return cls(text, begin, end, name)

    @property
    def first(self) -> bytes:
        """Return the first byte of the first value; b"" if the list is empty."""
        return self.text[self.begin : self.begin + 1] if self.begin < self.end else b""

    def parts(self) -> Iterator[list[Any]]:
        """Yield the values of the list, in lists of about `PART_BYTES` of text. Raises RolloutError."""
        for _, values in self.texts_and_values():
            yield values

    def values(self) -> list[Any]:
        """Return all values; equal texts and numbers are the same objects. Raises RolloutError."""
        texts: dict[str, str] = {}
        numbers: dict[int, int] = {}
        found: list[Any] = []
        for part in self.parts():
            for value in part:
                if type(value) is str:
                    found.append(texts.setdefault(value, value))
                else:
                    found.append(numbers.setdefault(value, value) if type(value) is int else value)
        return found

    def texts_and_values(self) -> Iterator[tuple[bytes, list[Any]]]:
        """Yield the same, each with its text. Raises RolloutError."""
        boundary = {b"{": BETWEEN_OBJECTS, b"[": _BETWEEN_LISTS}.get(self.first, _COMMA)
        position = self.begin
        while position < self.end:
            text, values, position = self._next(position, boundary)
            yield text, values

    def _next(self, position: int, boundary: re.Pattern[bytes]) -> tuple[bytes, list[Any], int]:
        """Return the text and the values of the part at `position`, and the position of the next one.

        A boundary inside a nested value or a text leaves its part incomplete, so it cannot be parsed. Then a later
        boundary is used.
        """
        size = PART_BYTES
        while size <= MAX_PART_BYTES:
            found = boundary.search(self.text, position + size, self.end) if position + size < self.end else None
            stop, following = found.span(1) if found else (self.end, self.end)
            if stop - position > MAX_PART_BYTES:
                break
            part = b"[%b]" % self.text[position:stop]
            if len(part) > WHOLE_BYTES and _has_many_objects(part):
                break
            try:
                return part, parse_value(part), following
            except orjson.JSONDecodeError as error:
                if "ecursion" in str(error) or found is None:
                    raise encoding_error(part, str(error)) from None
            size = 2 * (stop - position)
        part = self.text[position : min(self.end, position + MAX_PART_BYTES)]
        raise encoding_error(part, "") if b"\\u" in part or not part.isascii() else self._too_big()

    def _too_big(self) -> RolloutError:
        return RolloutError(
            f"one entry of `{self.name}` has more than {MAX_PART_BYTES / 1e6:.0f} MB, or its entries differ in kind",
            hint="write one experience, or one row of numbers, for each step",
            code="E_TOO_BIG",
        )


def _has_many_objects(part: bytes) -> bool:
    """Return whether parsing a large part would take much memory, because it does not mostly contain numbers."""
    return 32 * (part.count(b"{") + part.count(b"[") + part.count(b'"') // 2) > len(part)


def after_space(text: bytes, position: int) -> int:
    """Return the position of the first byte from `position` on that is not white space."""
    found = _SPACE.match(text, position)
    return position if found is None else found.end()
