"""Values that a warm trainer has read before its job arrives. In every other program the cache is empty."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

MAX_BYTES = 256 * 1024 * 1024


class PrefetchCache:
    """Values by key. A key contains a content hash or a file's size, time and inode, so a value is never stale."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._bytes = 0

    def put(self, key: Hashable, value: object, *, size_bytes: int = 0) -> None:
        """Keep a value, unless the sum of all sizes would exceed MAX_BYTES."""
        if key not in self._values and self._bytes + size_bytes <= MAX_BYTES:
            self._values[key] = value
            self._bytes += size_bytes

    def get(self, key: Hashable) -> Any:
        """Return the value, or None."""
        return self._values.get(key)

    def pop(self, key: Hashable) -> Any:
        """Remove and return the value, for a caller that will change it. None if the key has no value."""
        return self._values.pop(key, None)

    @property
    def size(self) -> int:
        """Return the number of values."""
        return len(self._values)

    @property
    def keys(self) -> list[Hashable]:
        """Return the keys of all values."""
        return list(self._values)
