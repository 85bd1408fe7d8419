"""Read a large rollout file in parts; the result is that of schemas.rollout.reader for the same file."""

from __future__ import annotations

from typing import Any

from schemas.errors import RolloutError
from schemas.rollout.agents import agents_from_values
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.large.document import LargeDocument, value_of
from schemas.rollout.large.joining import joined
from schemas.rollout.large.parts import ListText
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.rollout import Rollout, unknown_format
from schemas.rollout.v1 import no_experiences, rollout_from_v1
from schemas.rollout.v2 import MEMBERS, SCHEMA_NAME, rollout_from_v2


def rollout_in_parts(text: bytes, rules: ReadingRules) -> Rollout:
    """Return the rollout in a large file's text, as it is written. Raises RolloutError."""
    document = LargeDocument(text)
    del text
    text, found = document.text, document.members
    if document.is_first_version:
        return _v1(text, found["experiences"], rules)
    schema = value_of(text, found["schema"], "schema") if "schema" in found else None
    if schema != SCHEMA_NAME:
        raise unknown_format(found, schema, SCHEMA_NAME)
    return rollout_from_v2({name: value_of(text, at, name) if name in MEMBERS else None for name, at in found.items()})


def _v1(text: bytes, span: tuple[int, int], rules: ReadingRules) -> Rollout:
    is_list = text[span[0] : span[0] + 1] == b"["
    experiences = ListText.of(text, *span, "experiences") if is_list else None
    if experiences is None or not experiences.first:
        raise no_experiences()
    contract, rows, parts = None, 0, []
    agents: list[Any] = []
    known: dict[str, str] = {}
    for part, values in experiences.texts_and_values():
        require_unique_keys(part, values)
        try:
            rollout = rollout_from_v1({"experiences": values}, rules, contract)
        except RolloutError as error:
            raise error.of_later_rows(rows) from None
        contract = rollout.contract
        indices = (experience.get("agent_index") for experience in values)
        agents += [known.setdefault(name, name) if type(name) is str else name for name in indices]
        rows += len(values)
        parts.append(rollout)
    return joined(parts, agents_from_values(agents, "agent_index").ids)
