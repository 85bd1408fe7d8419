"""What the ledger stores, as plain values."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from schemas.base import StrictModel
from schemas.job import Adoption, Result

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FileSignature:
    """Size, time and inode of a file, to detect a change without reading the file."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileSignature:
        """Return the signature of an `lstat` result.

        SQLite's integers have 64 bits: times after the year 2262 and large inodes are truncated. Windows' inodes do not
        fit, so they are 0.
        """
        mtime_ns = max(-_INT64_MAX, min(_INT64_MAX, info.st_mtime_ns))
        return cls(info.st_size, mtime_ns, 0 if sys.platform == "win32" else info.st_ino & _INT64_MAX)


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A rollout, as it is stored in the ledger."""

    sha256: str
    name: str
    experiences: int
    left_out: int
    reward_mean: float
    policy_version: int | None
    written_s: float  #: the file's time, s since 1970
    repeated: str = ""  #: experiences that were in earlier rollouts and do not count; see schemas.rollout.repeats


@dataclass(frozen=True, slots=True)
class UsedRollout:
    """A rollout that a cycle may train on."""

    row: RolloutRow
    cycle_id: int | None  #: the cycle that claimed it; None if it is pending
    accepted_s: float  #: when the daemon accepted it, s since 1970


@dataclass(frozen=True, slots=True)
class Publication:
    """The publication of a model."""

    cycle_id: int
    policy_version: int
    epoch: int
    model: str  #: relative to Models
    sha256: str
    at_s: float


class PublishedCycle(StrictModel):
    """A published cycle, as far as it can be known without the ledger."""

    cycle: int
    policy_version: int
    epoch: int
    model: str  #: relative to Models
    sha256: str
    at_s: float  #: s since 1970
    parent: str | None = None
    rollouts: tuple[str, ...] = ()  #: SHA-256 of those that it claimed
    result: Result | None = None  #: None if the cycle's folder was removed
    adoption: Adoption | None = None  #: the file that the model was adopted from
