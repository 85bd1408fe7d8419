"""`python -m schemas.generate`: writes the JSON Schemas, docs/errors.md and the README's settings from the code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.error_codes import errors_page
from schemas.json_schema.documents import ModelDocument, RolloutV1, RolloutV2
from schemas.settings.models import Settings
from schemas.status import Status

ROOT = Path(__file__).resolve().parent.parent
TABLE_START = "<!-- settings: made by `python -m schemas.generate` -->"
TABLE_END = "<!-- settings end -->"

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "rollout_v1.schema.json": RolloutV1,
    "rollout_v2.schema.json": RolloutV2,
    "model.schema.json": ModelDocument,
    "status.schema.json": Status,
    "settings.schema.json": Settings,
}


def schema_text(model: type[BaseModel]) -> str:
    """Return the JSON Schema of a document as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=True) + "\n"


def settings_table() -> str:
    """Return all settings as a Markdown table."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for group, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        for name, setting in kind.model_fields.items():
            description = " ".join((setting.description or "").split())
            rows.append(f"| `{group}.{name}` | `{_toml(setting.default)}` | {description} |")
    return "\n".join(rows)


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def readme_with_table(readme: str) -> str:
    """Return the README with its table of settings made anew."""
    before, _, rest = readme.partition(TABLE_START)
    _, _, after = rest.partition(TABLE_END)
    return f"{before}{TABLE_START}\n{settings_table()}\n{TABLE_END}{after}"


def wanted_files() -> dict[Path, str]:
    """Return every generated file with the text it should have."""
    wanted = {ROOT / "schemas" / "json_schema" / name: schema_text(model) for name, model in SCHEMAS.items()}
    if (ROOT / "docs").is_dir():
        wanted[ROOT / "docs" / "errors.md"] = errors_page()
    readme = ROOT / "README.md"
    if readme.exists():
        wanted[readme] = readme_with_table(readme.read_text(encoding="utf-8"))
    return wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is out of date; with --check only tell, and exit 1 where something is."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    options = parser.parse_args(arguments)
    stale = []
    for path, text in wanted_files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not options.check:
                path.write_text(text, encoding="utf-8", newline="\n")
    for name in stale:
        sys.stdout.write(f"{name} {'is out of date' if options.check else 'written'}\n")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
