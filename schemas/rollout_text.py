"""From the bytes that engines write to a JSON document: encodings, `nan`, and telling cut from broken."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import orjson

from schemas.errors import RolloutError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_FINITE = re.compile(
    rb"(?<=[\s:,\[])[+-]?(?:nan(?:\([a-z0-9]*\))?|inf(?:inity)?|1\.#\w+)(?=[\s,\]}])", re.IGNORECASE
)
"""`nan`, `-nan(ind)`, `NaN`, `inf`, `Infinity`, `1.#INF`, where a JSON value stands."""
_WHITE = b" \t\r\n"


def parse_document(data: bytes) -> Any:
    """Parse a rollout file's bytes; values that are not finite come out as None or as infinities.

    Raises RolloutError: E_EMPTY, E_NUL, E_ENCODING, E_TRUNCATED (incomplete), E_DEPTH, E_JSON.
    """
    text = _as_utf8(data)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "ecursion" in str(error) or "depth" in str(error):
            raise RolloutError("it is nested too deep", hint="write flat lists", code="E_DEPTH") from None
    try:
        return orjson.loads(_NOT_FINITE.sub(b"null", text))
    except orjson.JSONDecodeError:
        return _parse_slowly(text)


def _as_utf8(data: bytes) -> bytes:
    if not data:
        raise RolloutError(
            "the file is empty",
            hint="Unreal's SaveStringToFile writes 0 bytes for an empty string",
            code="E_EMPTY",
            incomplete=True,
        )
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            if encoding == "utf-8":
                return data[len(bom) :]
            return _decoded(data[len(bom) :], encoding).encode("utf-8", "replace")
    if not data.strip(b"\0"):
        raise RolloutError(
            "the file holds only NUL bytes", hint="its writer or the power was cut", code="E_NUL", incomplete=True
        )
    return data


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise RolloutError(
            f"it is not valid {encoding}",
            hint="write UTF-8 (Unreal: ForceUTF8WithoutBOM)",
            code="E_ENCODING",
            incomplete=error.end >= len(data) - 4,
        ) from None


def _parse_slowly(text: bytes) -> Any:
    """Parse what orjson refuses but json takes (1e999), and say where it is broken otherwise."""
    try:
        return json.loads(_NOT_FINITE.sub(b"null", text))
    except RecursionError:
        raise RolloutError("it is nested too deep", hint="write flat lists", code="E_DEPTH") from None
    except UnicodeDecodeError:
        raise RolloutError(
            "it is not UTF-8", hint="write UTF-8 (Unreal: ForceUTF8WithoutBOM)", code="E_ENCODING"
        ) from None
    except json.JSONDecodeError as error:
        whole = text.rstrip(_WHITE)
        cut = not whole.endswith(b"}") or error.pos >= len(error.doc.rstrip()) - 1 or "Unterminated" in error.msg
        if cut:
            raise RolloutError(
                f"it ends before it is whole ({len(text)} bytes)",
                hint="write to a temporary name and rename when done",
                code="E_TRUNCATED",
                incomplete=True,
            ) from None
        raise RolloutError(
            f"it is not JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            hint="validate the exporter's output",
            code="E_JSON",
            incomplete=True,
        ) from None
    except ValueError as error:
        raise RolloutError(f"it is not JSON: {error}", hint="validate the exporter's output", code="E_JSON") from None
