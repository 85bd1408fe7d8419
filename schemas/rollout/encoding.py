"""Parse the bytes that engines write as JSON: encodings, `nan`, incomplete and invalid files."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable
from typing import Any

import orjson

from schemas.errors import RolloutError
from schemas.rollout.rollout import MAX_OBJECTS, MAX_VALUES

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_INFINITIES = rf"inf(?:inity)?|1\.#inf\w*|{chr(0x221E)}"
_WORDS = rf"([+-]?)(?:(nan(?:\([a-z0-9]*\))?|1\.#(?:qnan|snan|ind)\w*)|{_INFINITIES})"
"""A sign, and a second group for what is not a number and not an infinity."""
_NOT_FINITE = re.compile(rb"(?<=[\s:,\[])" + _WORDS.encode() + rb"(?=[\s,\]}])", re.IGNORECASE)
"""`nan`, `-nan(ind)`, `NaN`, `inf`, `Infinity`, `1.#INF` in the place of a JSON value."""
_AFTER_WORD = re.compile(rb"[\s,\]}]")
_TEXT_NOT_FINITE = re.compile(rf"\s*{_WORDS}\s*", re.IGNORECASE)
_INFINITE = b"1e308"
"""Written in place of an infinity, which JSON does not have: it is infinite in float32."""
_MAYBE_TOO_LARGE = re.compile(rb"(?<=[\s:,\[])-?(?:\d{300,}(?:\.\d+)?|\d+(?:\.\d+)?[eE]\+?\d{3,})(?=[\s,\]}])")
"""Numbers such as 1e999, which the parser rejects because they do not fit into a double."""
_LONGEST_WORD = 40
_COMMA = re.compile(r"\d,\d")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_WHITE_SPACE = b" \t\r\n"
_UNCHECKED_BYTES = 4 * 1024 * 1024
"""A document of this size cannot contain too many values."""
_WINDOW = 1 << 18
_CONTINUATIONS = bytes(range(0x80, 0xC0))
"""The bytes of a character in UTF-8 except its first one."""
_NUL_RUN = b"\0\0\0\0"
"""At the start or end this is not text in any encoding: the space was reserved, but not written."""


def require_size_limits(data: bytes) -> None:
    """Raise RolloutError (E_TOO_BIG, E_DEPTH) for a file that would need too much memory when parsed."""
    if len(data) <= _UNCHECKED_BYTES:
        return
    if data.count(b",") > MAX_VALUES:
        raise RolloutError(
            f"it contains more than {MAX_VALUES:,} values", hint="write fewer experiences in a file", code="E_TOO_BIG"
        )
    opened = data.count(b"{") + data.count(b"[")
    if opened <= MAX_OBJECTS:
        return
    if opened - data.count(b"}") - data.count(b"]") > MAX_OBJECTS:
        raise too_deep()
    raise RolloutError(
        f"it contains more than {MAX_OBJECTS:,} objects and lists",
        hint="write fewer experiences in a file",
        code="E_TOO_BIG",
    )


def too_deep() -> RolloutError:
    """Return the error for a text that is nested too deeply."""
    return RolloutError("it is nested too deeply", hint="write flat lists", code="E_DEPTH")


def is_costly_encoding(data: bytes) -> bool:
    """Return whether a text is in UTF-16 or UTF-32, which need two or four times as much memory as UTF-8."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]


def parse_text(text: bytes) -> tuple[bytes, Any]:
    """Return a text and its parsed document; values that are not finite are replaced in both.

    In the document, values that are not a number are None, and infinite ones are 1e308 or -1e308.

    Raises RolloutError: E_ENCODING, E_TRUNCATED, E_DEPTH, E_JSON.
    """
    reason = ""
    for repair in (_unchanged, _without_not_finite, _without_too_large):
        text = repair(text)
        try:
            return text, orjson.loads(text)
        except orjson.JSONDecodeError as error:
            reason = str(error)
            if "ecursion" in reason or "depth" in reason:
                raise too_deep() from None
    raise _parse_error(text, reason)


def parse_value(text: bytes) -> Any:
    """Return the value of a JSON text, in which infinite numbers are 1e308 or -1e308. Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.loads(_without_too_large(text))


def encoding_error(text: bytes, reason: str) -> RolloutError:
    """Return the error for a part of a file that is JSON, but that orjson does not parse for the given reason."""
    if "ecursion" in reason or "depth" in reason:
        return too_deep()
    try:
        text.decode()
    except UnicodeDecodeError:
        return _invalid("utf-8")
    return _unpaired() if _SURROGATE.search(text) else _not_json(reason)


def json_error(text: bytes, reason: str, position: int | None) -> RolloutError:
    """Return the error for a large text that is not JSON at a byte position; None if it ends too early."""
    ending = text[-_WINDOW:].rstrip(_WHITE_SPACE)
    if position is None or not ending.endswith(b"}") or position >= len(text) - _WINDOW + len(ending) - 1 > 0:
        return _truncated(text)
    if "escape" in reason or "surrogate" in reason:
        return _unpaired()
    line, column = text.count(b"\n", 0, position) + 1, position - text.rfind(b"\n", 0, position)
    near = text[max(0, position - 12) : position + 6].decode("utf-8", "replace")
    return _malformed(reason, line, column, near)


def require_utf8(text: bytes) -> None:
    """Raise RolloutError (E_ENCODING, E_TRUNCATED) if a large text is not UTF-8."""
    if text.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for begin in range(0, len(text), _WINDOW):
            decoder.decode(text[begin : begin + _WINDOW])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        _decoded(text[-_WINDOW:].lstrip(_CONTINUATIONS), "utf-8")  # raises E_TRUNCATED if the error is at the end
        raise _invalid("utf-8") from None


def without_not_finite(text: bytes) -> bytes:
    """Return a large text with null or an infinity in place of each value that is not finite."""
    return _in_windows(text, _without_not_finite)


def without_too_large(text: bytes) -> bytes:
    """Return a large text with an infinity in place of each number that is too large for a double."""
    return _in_windows(text, _without_too_large)


def _in_windows(text: bytes, repair: Callable[[bytes], bytes]) -> bytes:
    """Return the repaired text. The places of all replacements at once would take 40 times the size of the text."""
    pieces, position = [], 0
    while position < len(text):
        found = _AFTER_WORD.search(text, position + _WINDOW)
        end = found.start() if found else len(text)
        pieces.append(repair(text[position : end + 1])[: -1 if found else None])
        position = end
    return b"".join(pieces)


def _unchanged(text: bytes) -> bytes:
    return text


def _without_not_finite(text: bytes) -> bytes:
    return _NOT_FINITE.sub(lambda match: b"null" if match[2] else _signed_infinity(match[1]), text)


def _without_too_large(text: bytes) -> bytes:
    def replaced(match: re.Match[bytes]) -> bytes:
        is_small = math.isfinite(float(match[0])) and len(match[0]) < 300
        return match[0] if is_small else _signed_infinity(match[0][:1])

    return _MAYBE_TOO_LARGE.sub(replaced, text)


def _signed_infinity(sign: bytes) -> bytes:
    return b"-" + _INFINITE if sign == b"-" else _INFINITE


def meaning_of_text(text: str) -> float | None:
    """Return the number that a text such as "NaN" or "-Infinity" means; None for all other texts."""
    found = _TEXT_NOT_FINITE.fullmatch(text) if len(text) <= _LONGEST_WORD else None
    if found is None:
        return None
    return math.nan if found[2] else -math.inf if found[1] == "-" else math.inf


def as_utf8(data: bytes) -> bytes:
    """Return a file's text as UTF-8. Raises RolloutError: E_EMPTY, E_NUL, E_ENCODING, E_TRUNCATED."""
    if not data.strip(_WHITE_SPACE):
        raise _empty(len(data))
    if not data.strip(b"\0") or data.startswith(_NUL_RUN) or data.endswith(_NUL_RUN):
        problem = "contains only NUL bytes" if not data.strip(b"\0") else "starts or ends with NUL bytes"
        raise RolloutError(
            f"the file {problem}",
            hint="the writer was interrupted; write to a temporary name, then rename",
            code="E_NUL",
            incomplete=True,
        )
    bom, encoding = next((known for known in _BOMS if data.startswith(known[0])), (b"", _encoding_of(data)))
    text = data[len(bom) :]
    if encoding != "utf-8":
        text = _decoded(text, encoding).encode("utf-8")
    if not text.strip(_WHITE_SPACE):
        raise _empty(len(data))
    return text


def _empty(size: int) -> RolloutError:
    return RolloutError(
        f"the file is empty ({size} bytes)",
        hint="export only if there are experiences (Unreal's SaveStringToFile writes 0 bytes for an empty string)",
        code="E_EMPTY",
        incomplete=True,
    )


def _encoding_of(data: bytes) -> str:
    """Return the encoding of a text that has no byte order mark and begins with an ASCII character."""
    match bytes(byte != 0 for byte in data[:4]):
        case b"\1\0\0\0":
            return "utf-32-le"
        case b"\0\0\0\1":
            return "utf-32-be"
        case b"\1\0\1\0":
            return "utf-16-le"
        case b"\0\1\0\1":
            return "utf-16-be"
    return "utf-8"


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 4:
            raise _truncated(data) from None
        raise _invalid(encoding) from None


def _invalid(encoding: str) -> RolloutError:
    return RolloutError(
        f"it is not valid {encoding}", hint="write UTF-8 (Unreal: ForceUTF8WithoutBOM)", code="E_ENCODING"
    )


def _truncated(data: bytes) -> RolloutError:
    return RolloutError(
        f"it ends before it is complete ({len(data)} bytes)",
        hint="write to a temporary name, then rename",
        code="E_TRUNCATED",
        incomplete=True,
    )


def _parse_error(text: bytes, reason: str) -> RolloutError:
    """Return the error for a text that cannot be parsed, with the place, or for one that ends too early."""
    decoded = _decoded(text, "utf-8")
    try:
        json.loads(decoded, parse_int=float)
    except RecursionError:
        return too_deep()
    except json.JSONDecodeError as error:
        is_cut = (
            not text.rstrip(_WHITE_SPACE).endswith(b"}")
            or error.pos >= len(decoded.rstrip()) - 1
            or "Unterminated" in error.msg
        )
        if is_cut:
            return _truncated(text)
        near = decoded[max(0, error.pos - 12) : error.pos + 6]
        return _malformed(error.msg, error.lineno, error.colno, near)
    return _unpaired() if _SURROGATE.search(text) else _not_json(reason)


def _malformed(reason: str, line: int, column: int, near: str) -> RolloutError:
    comma = "a decimal comma? write 0.5 and not 0,5 in every language of the system; " if _COMMA.search(near) else ""
    return RolloutError(
        f"it is not JSON: {reason} in line {line}, column {column}",
        hint=f"{comma}correct the exporter; any JSON validator shows the place",
        code="E_JSON",
        incomplete=True,
    )


def _unpaired() -> RolloutError:
    return RolloutError(
        "it contains an incomplete character (an unpaired \\u surrogate)", hint="write UTF-8", code="E_ENCODING"
    )


def _not_json(reason: str) -> RolloutError:
    return RolloutError(
        f"it is not JSON: {reason}", hint="correct the exporter; any JSON validator shows the place", code="E_JSON"
    )
