"""`python -m schemas.generate`: write the JSON Schemas and the generated parts of the docs from the code."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from schemas.doc_tables import fields_table, settings_tables
from schemas.error_codes import errors_page
from schemas.json_schema.documents import ModelDocument, RolloutV1, RolloutV2
from schemas.settings.models import Settings
from schemas.status import CycleSummary, Receipt, Status

ROOT = Path(__file__).resolve().parent.parent

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "rollout_v1.schema.json": RolloutV1,
    "rollout_v2.schema.json": RolloutV2,
    "model.schema.json": ModelDocument,
    "status.schema.json": Status,
    "receipt.schema.json": Receipt,
    "settings.schema.json": Settings,
}


def schema_text(model: type[BaseModel]) -> str:
    """Return the JSON Schema of a document as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
    return json.dumps(schema, indent=2, ensure_ascii=True) + "\n"


def blocks() -> dict[str, dict[str, str]]:
    """Return the generated blocks of hand-written pages: page -> name of the block -> text.

    A page shows a block between `<!-- NAME: ... -->` and `<!-- NAME end -->`.
    """
    return {
        "docs/reference/settings.md": {"settings": settings_tables(Settings)},
        "docs/reference/formats.md": {"receipt": fields_table(Receipt)},
        "docs/reference/status.md": {"status": fields_table(Status), "history": fields_table(CycleSummary)},
    }


def with_block(page: str, name: str, text: str) -> str:
    """Return a page with the text between its markers replaced; the page itself if it has no such markers."""
    markers = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(\n<!-- {name} end -->)", re.DOTALL)
    return markers.sub(lambda found: f"{found[1]}{text}{found[2]}", page)


def generated_files() -> dict[Path, str]:
    """Return every generated file, and every page with generated blocks, with the text that it should have."""
    files = {ROOT / "schemas" / "json_schema" / name: schema_text(model) for name, model in SCHEMAS.items()}
    if (ROOT / "docs").is_dir():
        files[ROOT / "docs" / "reference" / "errors.md"] = errors_page()
    for name, page_blocks in blocks().items():
        path = ROOT / name
        if path.exists():
            page = path.read_text(encoding="utf-8")
            for block, text in page_blocks.items():
                page = with_block(page, block, text)
            files[path] = page
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files that are out of date; with --check only name them, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    options = parser.parse_args(arguments)
    stale = []
    for path, text in generated_files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not options.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
    for name in stale:
        sys.stdout.write(f"{name} {'is out of date' if options.check else 'written'}\n")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
