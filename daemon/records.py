"""What the ledger holds, as plain values."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another without reading it."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result) -> Stamp:
        """Give the stamp of an `lstat`. Windows has no small inode: its file index overflows SQLite's integers."""
        return cls(info.st_size, info.st_mtime_ns, 0 if sys.platform == "win32" else info.st_ino)


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
