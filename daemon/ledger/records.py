"""What the ledger holds, as plain values."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from schemas.base import StrictModel
from schemas.job import Result

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FileSignature:
    """What tells one state of a file from another without reading it."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileSignature:
        """Return the stamp of an `lstat`, within SQLite's integers: times after 2262 and large inodes are not.

        Windows has no small inode.
        """
        mtime_ns = max(-_INT64_MAX, min(_INT64_MAX, info.st_mtime_ns))
        return cls(info.st_size, mtime_ns, 0 if sys.platform == "win32" else info.st_ino & _INT64_MAX)


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A rollout as the ledger has it."""

    sha256: str
    name: str
    experiences: int
    left_out: int
    reward_mean: float
    policy_version: int | None
    written_s: float  #: the file's time, s since 1970


@dataclass(frozen=True, slots=True)
class UsedRollout:
    """A rollout that a cycle may learn from."""

    row: RolloutRow
    cycle_id: int | None  #: whose trigger it counted in


@dataclass(frozen=True, slots=True)
class Publication:
    """A model that was put before the engine."""

    cycle_id: int
    policy_version: int
    epoch: int
    model: str  #: relative to Models
    sha256: str
    at_s: float


class PublishedCycle(StrictModel):
    """One published cycle, as something beside the ledger tells of it."""

    cycle: int
    policy_version: int
    epoch: int
    model: str  #: relative to Models
    sha256: str
    at_s: float  #: s since 1970
    parent: str | None = None
    rollouts: tuple[str, ...] = ()  #: SHA-256 of those that triggered it
    result: Result | None = None  #: None where its folder is gone
