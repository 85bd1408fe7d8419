"""Files in Exports that were not accepted yet, and the delay before they are read again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from daemon.ledger.records import FileSignature
from daemon.rollouts.reading.reader import Incomplete
from schemas.backoff import backoff_s

UNREADABLE = frozenset({"E_PERMISSION", "E_UNREADABLE", "E_HELD_OPEN", "E_STORE"})
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 60.0
_READS_WHILE_HELD_OPEN = 3
"""This many failed reads of a file that another program has open are expected: the engine may be writing it."""


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
    def is_being_written(self) -> bool:
        """Return whether another program has the file open, and may close it in a moment."""
        return self.code == "E_HELD_OPEN" and self.failed_reads < _READS_WHILE_HELD_OPEN

    @property
    def deserves_warning(self) -> bool:
        """Return whether to warn users that the file cannot be read."""
        return self.code in UNREADABLE and not self.is_being_written


def code_and_reason(found: Incomplete, failed_reads: int) -> tuple[str, str]:
    """Return why a file is not accepted, after this many failed reads."""
    if found.reason_if_lasting and failed_reads >= _READS_WHILE_HELD_OPEN:
        return "E_PERMISSION", found.reason_if_lasting
    return found.code, found.reason


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts rollout_9 before rollout_10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
