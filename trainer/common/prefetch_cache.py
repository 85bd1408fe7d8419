"""What a spare trainer has read before its job came. Empty in every other program."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

MOST_BYTES = 256 * 1024 * 1024


class PrefetchCache:
    """Values by key. A key names content (a hash) or a file's very state, so that what is found is never stale."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._bytes = 0

    def put(self, key: Hashable, value: object, *, size_bytes: int = 0) -> None:
        """Remember a value, unless the sum of sizes would pass MOST_BYTES."""
        if key not in self._values and self._bytes + size_bytes <= MOST_BYTES:
            self._values[key] = value
            self._bytes += size_bytes

    def get(self, key: Hashable) -> Any:
        """Return what is remembered, or None."""
        return self._values.get(key)

    @property
    def size(self) -> int:
        """How many values are remembered."""
        return len(self._values)

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self._bytes = 0

    def take(self, key: Hashable) -> Any:
        """Return what is remembered, once: its user will change it. None where there is nothing."""
        return self._values.pop(key, None)


AHEAD = PrefetchCache()
