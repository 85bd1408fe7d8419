"""The generated files are current, and the JSON Schemas describe real files."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import orjson
import pytest

from schemas.doc_tables import fields_table, settings_tables
from schemas.generate import SCHEMAS, blocks, generated_files, schema_text, with_block
from schemas.model import model_to_bytes
from schemas.rollout.v2 import rollout_to_v2
from schemas.settings.loading import setting_names
from schemas.settings.models import Settings
from schemas.settings.sources import variable_of
from schemas.status import CycleSummary, Status
from tests.helpers import SAMPLES, make_model, make_rollout

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", generated_files(), ids=lambda path: path.name)
def test_generated_files_are_current(path):
    assert path.read_text(encoding="utf-8") == generated_files()[path], "run `python -m schemas.generate`"


@pytest.mark.parametrize(("page", "names"), [("docs/reference/settings.md", 1), ("docs/reference/status.md", 2)])
def test_a_page_shows_all_its_generated_blocks(page, names):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(blocks()[page]) == names
    for name in blocks()[page]:
        assert with_block(text, name, "other text") != text


def test_a_block_is_replaced_between_its_markers_only():
    page = "before\n<!-- a: x -->\nold\n<!-- a end -->\nafter\n<!-- b: x -->\nother\n<!-- b end -->\n"
    assert with_block(page, "a", "new") == page.replace("old", "new")
    assert with_block(page, "c", "new") == page


def test_the_settings_page_has_each_setting_with_its_variable_and_range():
    text = settings_tables(Settings)
    for name in setting_names():
        [row] = [line for line in text.splitlines() if f" `{variable_of(name)}` " in line]
        assert all(cell.strip() for cell in row.split("|")[1:-1]), row
    assert "| `epochs` | `10` | a whole number from 1 to 1000 |" in text


@pytest.mark.parametrize("kind", [Status, CycleSummary])
def test_every_field_of_a_document_has_a_type_and_a_meaning(kind):
    rows = fields_table(kind).splitlines()[2:]
    assert len(rows) >= len(kind.model_fields)
    for row in rows:
        assert all(cell.strip() for cell in row.split("|")[1:-1]), row


DOCUMENTS = {
    "rollout_v1.schema.json": (SAMPLES / "rollout_0_20241225_143022.json").read_bytes(),
    "rollout_v2.schema.json": rollout_to_v2(make_rollout(), rollout_id="r", base64_columns=True),
    "model.schema.json": model_to_bytes(make_model()),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_real_files_match_their_schema(name):
    jsonschema.validate(orjson.loads(DOCUMENTS[name]), orjson.loads(schema_text(SCHEMAS[name])))


def test_the_schema_rejects_what_the_reader_rejects():
    schema = orjson.loads(schema_text(SCHEMAS["rollout_v1.schema.json"]))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"experiences": [{"state": [1.0]}]}, schema)
