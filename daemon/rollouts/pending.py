"""A file in Exports that is not whole yet, and how long to wait before it is read again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from daemon.ledger.records import FileSignature

UNREADABLE = frozenset({"E_PERMISSION", "E_UNREADABLE", "E_HELD_OPEN", "E_STORE"})
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 60.0
_TRIES_HELD_OPEN = 3
"""A file that another program holds open is nothing to speak of before so many tries."""


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that is not whole yet."""

    signature: FileSignature
    since_s: float  #: monotonic s, when this stamp was first seen, or last tried again
    was_read: bool  #: whether this stamp has been read
    code: str
    reason: str
    failed_reads: int = 0  #: how often it could not be read

    @property
    def retry_s(self) -> float:
        """How long to wait before it is tried again."""
        return min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(self.failed_reads - 1, 16))

    @property
    def deserves_warning(self) -> bool:
        """Return whether people should know that it cannot be read."""
        return self.code in UNREADABLE and (self.code != "E_HELD_OPEN" or self.failed_reads >= _TRIES_HELD_OPEN)


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Order names as people do: rollout_9 before rollout_10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
