"""Files in Exports that were not accepted yet, and the delay before they are read again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from daemon.ledger.records import FileSignature
from schemas.backoff import backoff_s

UNREADABLE = frozenset({"E_PERMISSION", "E_UNREADABLE", "E_HELD_OPEN", "E_STORE"})
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 60.0
_FAILED_READS_BEFORE_WARNING = 3
"""Users are warned about a file that another program has open only after this many failed reads."""


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that was not accepted yet."""

    signature: FileSignature
    since_s: float  #: monotonic time of the first scan with this signature, or of the last failed read
    was_read: bool  #: whether the file was read with this signature
    code: str
    reason: str
    failed_reads: int = 0

    @property
    def retry_s(self) -> float:
        """Return the seconds to wait before the next read."""
        return backoff_s(self.failed_reads, first_s=_FIRST_RETRY_S, longest_s=_LONGEST_RETRY_S)

    @property
    def deserves_warning(self) -> bool:
        """Return whether to warn users that the file cannot be read."""
        is_open_elsewhere = self.code == "E_HELD_OPEN" and self.failed_reads < _FAILED_READS_BEFORE_WARNING
        return self.code in UNREADABLE and not is_open_elsewhere


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts rollout_9 before rollout_10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
