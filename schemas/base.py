"""The base class of records that are written to a file or sent to another process."""

from __future__ import annotations

from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """An immutable record that rejects unknown keys and converts no types: both would hide a bug in the writer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """Return JSON on one line. Equal records have equal bytes, so the bytes can be hashed."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the record that `to_bytes` wrote. Raises pydantic's ValidationError."""
        return cls.model_validate_json(data)

    @classmethod
    def from_json_value(cls, value: Any) -> Self:
        """Return the record of a parsed JSON value, which has lists instead of tuples. Raises ValidationError."""
        return cls.model_validate_json(orjson.dumps(value))
