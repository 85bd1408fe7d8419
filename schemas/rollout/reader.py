"""Read a rollout file of any version; see 'Rollout JSON' in docs/reference/formats.md."""

from __future__ import annotations

from schemas.errors import RolloutError
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.encoding import parse_document, require_size_limits
from schemas.rollout.rollout import SEE_FORMATS, Rollout, drop_not_finite, require_contract_limits
from schemas.rollout.v1 import rollout_from_v1
from schemas.rollout.v1_fast import read_v1_fast
from schemas.rollout.v2 import SCHEMA_NAME, rollout_from_v2


def read_rollout(data: bytes) -> Rollout:
    """Return the rollout in a file's bytes, of either version and in any encoding that engines use.

    Raises only RolloutError. `incomplete` is set if the document ends too early, or if its writer may
    still be writing it.
    """
    require_size_limits(data)
    rollout = read_v1_fast(data)
    if rollout is None:
        rollout = _read_without_fast_path(data)
    require_contract_limits(rollout.contract)
    return drop_not_finite(rollout)


def _read_without_fast_path(data: bytes) -> Rollout:
    text, document = parse_document(data)
    if not isinstance(document, dict):
        raise RolloutError("the file is not a JSON object", hint=SEE_FORMATS)
    require_unique_keys(text, document)
    schema = document.get("schema")
    if schema == SCHEMA_NAME:
        return rollout_from_v2(document)
    if schema is None and "experiences" in document:
        return rollout_from_v1(document)
    if schema is None:
        raise RolloutError("the file has no `experiences`", hint=f"check that this is a rollout; {SEE_FORMATS}")
    named = f"'{schema[:60]}'" if isinstance(schema, str) else f"of type {type(schema).__name__}"
    raise RolloutError(
        f"the schema {named} is unknown", hint=f"write {SCHEMA_NAME}, or version 1 without a schema", code="E_VERSION"
    )
