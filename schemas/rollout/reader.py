"""How any rollout file's bytes become a rollout (Contract 2)."""

from __future__ import annotations

from schemas.errors import RolloutError
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.encoding import parse_document, require_few_values
from schemas.rollout.rollout import Rollout, drop_not_finite, require_sane_contract
from schemas.rollout.v1 import rollout_from_v1
from schemas.rollout.v1_fast import read_typed_v1
from schemas.rollout.v2 import SCHEMA_NAME, rollout_from_v2


def read_rollout(data: bytes) -> Rollout:
    """Make a rollout of a file's bytes, of either version and any encoding that engines use.

    Raises RolloutError and nothing else; `incomplete` is set where waiting may still help: the document ends before
    it is whole, or its writer may not be done.
    """
    require_few_values(data)
    rollout = read_typed_v1(data)
    if rollout is None:
        rollout = _read_plainly(data)
    require_sane_contract(rollout.contract)
    return drop_not_finite(rollout)


def _read_plainly(data: bytes) -> Rollout:
    text, document = parse_document(data)
    if not isinstance(document, dict):
        raise RolloutError("the file holds no JSON object", hint="write Contract 2's rollout, version 1 or 2")
    require_unique_keys(text, document)
    schema = document.get("schema")
    if schema == SCHEMA_NAME:
        return rollout_from_v2(document)
    if schema is None and "experiences" in document:
        return rollout_from_v1(document)
    if schema is None:
        raise RolloutError("the file has no `experiences`", hint="is this a rollout? see docs/formats.md")
    named = f"'{schema[:60]}'" if isinstance(schema, str) else f"of type {type(schema).__name__}"
    raise RolloutError(f"schema {named} is unknown", hint=f"write {SCHEMA_NAME} or version 1", code="E_VERSION")
