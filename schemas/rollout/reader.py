"""Read a rollout file of any version; see 'Rollout JSON' in docs/reference/formats.md."""

from __future__ import annotations

from schemas.errors import RolloutError
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.encoding import as_utf8, parse_text, require_size_limits
from schemas.rollout.finite import drop_not_finite
from schemas.rollout.large.parts import WHOLE_BYTES
from schemas.rollout.large.reading import rollout_in_parts
from schemas.rollout.meaning.fit import fit
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.meaning.separation import separate_agents
from schemas.rollout.rollout import SEE_FORMATS, Rollout, require_contract_limits, unknown_format
from schemas.rollout.v1 import rollout_from_v1
from schemas.rollout.v1_fast import read_v1_fast
from schemas.rollout.v2 import SCHEMA_NAME, rollout_from_v2


def read_rollout(data: bytes, rules: ReadingRules = NO_RULES) -> Rollout:
    """Return the rollout in a file's bytes, of either version and in any encoding that engines use.

    Raises only RolloutError. `incomplete` is set if the document ends too early, or if its writer may
    still be writing it.
    """
    return separate_agents(finished(parse_rollout(data, rules), rules))


def parse_rollout(data: bytes, rules: ReadingRules = NO_RULES) -> Rollout:
    """Return the rollout in a file's bytes, as it is written; call `finished` on it. Raises RolloutError."""
    require_size_limits(data)
    rollout = read_v1_fast(data)
    if rollout is None:
        rollout = _parse_without_fast_path(data, rules)
    require_contract_limits(rollout.contract)
    return rollout


def finished(rollout: Rollout, rules: ReadingRules) -> Rollout:
    """Return a parsed rollout as the rules read it, without experiences that are not finite. Raises RolloutError.

    Agents that share an agent_index are not separated: see `separate_agents`.
    """
    return drop_not_finite(fit(rollout, rules))


def _parse_without_fast_path(data: bytes, rules: ReadingRules) -> Rollout:
    text = as_utf8(data)
    if len(text) > WHOLE_BYTES:
        return rollout_in_parts(text, rules)
    text, document = parse_text(text)
    if not isinstance(document, dict):
        raise RolloutError("the file is not a JSON object", hint=SEE_FORMATS)
    require_unique_keys(text, document)
    schema = document.get("schema")
    if schema == SCHEMA_NAME:
        return rollout_from_v2(document)
    if schema is None and "experiences" in document:
        return rollout_from_v1(document, rules)
    raise unknown_format(document, schema, SCHEMA_NAME)
