"""The JSON Schema files and the README's table are those that the code gives, and they describe real files."""

from __future__ import annotations

import orjson
import pytest

from schemas.generate import SCHEMAS, wanted_files
from schemas.model import model_to_bytes
from schemas.rollout.v2 import rollout_to_v2
from tests.helpers import SAMPLES, make_model, make_rollout

jsonschema = pytest.importorskip("jsonschema")


@pytest.mark.parametrize("path", wanted_files(), ids=lambda path: path.name)
def test_generated_files_are_current(path):
    assert path.read_text(encoding="utf-8") == wanted_files()[path], "run `python -m schemas.generate`"


DOCUMENTS = {
    "rollout_v1.schema.json": (SAMPLES / "rollout_0_20241225_143022.json").read_bytes(),
    "rollout_v2.schema.json": rollout_to_v2(make_rollout(), rollout_id="r", base64_columns=True),
    "model.schema.json": model_to_bytes(make_model()),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_real_files_keep_to_the_schema(name):
    from schemas.generate import schema_text

    jsonschema.validate(orjson.loads(DOCUMENTS[name]), orjson.loads(schema_text(SCHEMAS[name])))


def test_the_schema_refuses_what_the_reader_refuses():
    from schemas.generate import schema_text

    schema = orjson.loads(schema_text(SCHEMAS["rollout_v1.schema.json"]))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"experiences": [{"state": [1.0]}]}, schema)
