"""A file in Exports that was not accepted yet, and how long to wait before it is read again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from daemon.ledger.records import FileSignature
from schemas.backoff import backoff_s

UNREADABLE = frozenset({"E_PERMISSION", "E_UNREADABLE", "E_HELD_OPEN", "E_STORE"})
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 60.0
_READS_HELD_OPEN = 3
"""Users are not warned about a file that another program has open before this many failed reads."""


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that was not accepted yet."""

    signature: FileSignature
    since_s: float  #: monotonic time at which this signature was first seen, or the last read failed
    was_read: bool  #: whether the file was read with this signature
    code: str
    reason: str
    failed_reads: int = 0

    @property
    def retry_s(self) -> float:
        """Return how long to wait before the next read."""
        return backoff_s(self.failed_reads, first_s=_FIRST_RETRY_S, longest_s=_LONGEST_RETRY_S)

    @property
    def deserves_warning(self) -> bool:
        """Return whether users should know that the file cannot be read."""
        return self.code in UNREADABLE and (self.code != "E_HELD_OPEN" or self.failed_reads >= _READS_HELD_OPEN)


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts rollout_9 before rollout_10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
