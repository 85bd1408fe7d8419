"""How any rollout file's bytes become a rollout (Contract 2)."""

from __future__ import annotations

from schemas.errors import RolloutError
from schemas.rollout import Rollout, drop_not_finite
from schemas.rollout_text import parse_document
from schemas.rollout_v1 import rollout_from_v1
from schemas.rollout_v1_typed import read_typed_v1
from schemas.rollout_v2 import SCHEMA_NAME, rollout_from_v2


def read_rollout(data: bytes) -> Rollout:
    """Make a rollout of a file's bytes, of either version and any encoding that engines use.

    Raises RolloutError; `incomplete` is set where the document ends before it is whole.
    """
    quick = read_typed_v1(data)
    if quick is not None:
        return drop_not_finite(quick)
    document = parse_document(data)
    if not isinstance(document, dict):
        raise RolloutError("the file holds no JSON object", hint="write Contract 2's rollout, version 1 or 2")
    schema = document.get("schema")
    if schema == SCHEMA_NAME:
        rollout = rollout_from_v2(document)
    elif schema is None and "experiences" in document:
        rollout = rollout_from_v1(document)
    elif schema is None:
        raise RolloutError("the file has no `experiences`", hint="is this a rollout? see docs/formats.md")
    else:
        raise RolloutError(f"schema {schema!r} is unknown", hint=f"write {SCHEMA_NAME} or version 1", code="E_VERSION")
    return drop_not_finite(rollout)
