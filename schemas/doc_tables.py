"""The Markdown tables of the reference pages, generated from the models: settings, and fields of documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from schemas.settings.allowed import allowed, resolved, schema_of
from schemas.settings.loading import fields_of, groups_of
from schemas.settings.sources import variable_of

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "object",
}


def settings_tables(settings: type[BaseModel]) -> str:
    """Return a heading and a table for each table of settings: name, default, allowed values, variable, meaning."""
    header = ("setting", "default", "allowed", "environment variable", "what it does")
    parts = []
    for group, kind in groups_of(settings).items():
        rows = (
            (
                f"`{name}`",
                _default(field.default),
                allowed(schema_of(kind, [name])),
                f"`{variable_of(f'{group}.{name}')}`",
                _one_line(field.description),
            )
            for name, field in fields_of(kind).items()
        )
        parts.append(f"### [{group}]\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts)


def plain_settings_table(settings: type[BaseModel]) -> str:
    """Return one table of settings without environment variables; names in groups are dotted."""
    is_grouped = all(isinstance(field.default, BaseModel) for field in settings.model_fields.values())
    groups = {f"{group}.": kind for group, kind in groups_of(settings).items()} if is_grouped else {"": settings}
    rows = (
        (
            f"`{prefix}{name}`",
            _default(field.default),
            allowed(schema_of(kind, [name])),
            _one_line(field.description),
        )
        for prefix, kind in groups.items()
        for name, field in fields_of(kind).items()
    )
    return markdown_table(("setting", "default", "allowed", "what it does"), rows)


def fields_table(kind: type[BaseModel]) -> str:
    """Return the keys of a JSON document as a table, those of the objects in its lists below the list."""
    document = kind.model_json_schema()
    return markdown_table(("key", "type", "meaning"), _fields(document, document, ""))


def _fields(schema: dict[str, Any], document: dict[str, Any], prefix: str) -> Iterator[Sequence[str]]:
    for name, field in schema["properties"].items():
        key = f"{prefix}{name}"
        description = field.get("description") or resolved(field, document).get("description")
        yield f"`{key}`", _type(field, document), _one_line(description)
        items = resolved(field.get("items", {}), document)
        if "properties" in items:
            yield from _fields(items, document, f"{key}[].")


def _type(field: dict[str, Any], document: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(option, document) for option in field["anyOf"])
    schema = resolved(field, document)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return _TYPES[schema["type"]]


def _default(value: Any) -> str:
    return "not set" if value is None else f"`{json.dumps(value)}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
