"""Records that cross a border: closed, strict, frozen, with canonical bytes."""

from __future__ import annotations

from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Frozen, strict and closed: an unknown key is a bug in the writer, not news for the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """Canonical JSON on one line: equal records give equal bytes, so the bytes may be hashed."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises pydantic's ValidationError."""
        return cls.model_validate_json(data)

    @classmethod
    def from_json_value(cls, value: Any) -> Self:
        """Read a value that a JSON parser gave (lists where the record has tuples)."""
        return cls.model_validate_json(orjson.dumps(value))
