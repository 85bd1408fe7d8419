"""Descriptions of the allowed values of settings, for error messages and docs/reference/settings.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_NOUNS = {"integer": "whole number", "number": "number", "string": "text", "array": "pair"}
_EXAMPLES: Mapping[str, list[Any]] = {"integer": [128, 128], "number": [-1.0, 0.0], "string": ["steer", "brake"]}
_MAX_CHARACTERS = 60


def schema_of(kind: type[BaseModel], path: Sequence[str | int]) -> dict[str, Any]:
    """Return the JSON Schema of the value at `path` in a model; {} if it does not exist, or has several schemas."""
    document = _document(kind)
    schema = document
    for part in path:
        if isinstance(part, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part, {})
        schema = _without_null(resolved(schema, document))
    return schema


@cache
def _document(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema()


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that `$ref` refers to, or the schema itself."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found: dict[str, Any] = document.get("$defs", {}).get(name, {}) if name else schema
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return {**options[0], "default": schema.get("default")} if len(options) == 1 else schema


def allowed(schema: Mapping[str, Any]) -> str:
    """Return a description of the allowed values, such as "a whole number from 1 to 1000"; "" if there is none."""
    if "enum" in schema:
        names = [json.dumps(value) for value in schema["enum"]]
        return f"{', '.join(names[:-1])} or {names[-1]}"
    if "anyOf" in schema:
        return " or ".join(filter(None, (allowed(option) for option in schema["anyOf"])))
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "string":
            return "text"
        case "integer" | "number" as name:
            return f"a {_NOUNS[name]}{_range(schema)}"
        case "array":
            return _allowed_list(schema)
        case "object":
            return "a table"
    return ""


def example_list(schema: Mapping[str, Any]) -> list[Any]:
    """Return a list that a setting allows; if possible, its default."""
    return list(schema.get("default") or _EXAMPLES.get(schema.get("items", {}).get("type"), []))


def _allowed_list(schema: Mapping[str, Any]) -> str:
    items = schema.get("items", {})
    min_items, max_items = schema.get("minItems", 0), schema.get("maxItems")
    count = f"{min_items} to {max_items} " if max_items else f"at least {min_items} " if min_items else ""
    each = _range(items).removeprefix(",").strip()
    noun = _NOUNS.get(items.get("type"), "value")
    plural = noun if count == "at least 1 " else f"{noun}s"
    return f"a list of {count}{plural}{f', each {each}' if each else ''}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if schema.get("type") == "integer":
        low = above + 1 if above is not None else low
        high = below - 1 if below is not None else high
        above = below = None
    if low is not None and high is not None:
        return f" from {low} to {high}"
    limits = [
        f"{words} {limit}"
        for words, limit in (("above", above), ("at least", low), ("below", below), ("at most", high))
        if limit is not None
    ]
    if not limits:
        return ""
    return (" " if above is not None else ", ") + " and ".join(limits)


def reason(kind: type[BaseModel], error: ErrorDetails) -> str:
    """Return the reason why pydantic rejected a value: "must be a whole number from 1 to 1000".

    Messages of Hotlap's own validators are returned unchanged.
    """
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not a known name"
        case "value_error" | "assertion_error":
            return error["msg"].partition(", ")[2]
    path = [*error["loc"]]
    if path and isinstance(path[-1], int):
        path.pop()  # the words for a list include those for its items
    words = allowed(schema_of(kind, path))
    if error["type"] == "finite_number":
        words = words.replace("number", "finite number", 1) or "a finite number"
    return f"must be {words}" if words else "has the wrong form"


def shown(value: object) -> str:
    """Return a value from a file, a variable or a flag as it is printed in a message."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = f'"{value}"' if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
