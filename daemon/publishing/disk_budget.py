"""How much of the disk rollouts and their caches take, which used rollouts to remove, and a forecast."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.ledger.ledger import Ledger
from daemon.ledger.records import FileSignature
from daemon.runtime.clock import Clock
from schemas.storage.guarded import opened_folder
from schemas.storage.layout import ProjectPaths

GB = 1e9
DAY_S = 86_400.0
MIN_OBSERVED_S = 600.0
"""Rollouts of a shorter time do not show how fast they grow."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """The space that rollouts in Exports and their caches take, all in bytes."""

    used: int  #: all of them together
    removable: int  #: the part that ended cycles have used, the only part that may be removed
    limit: int  #: 0 = no limit
    free: int  #: on the disk
    per_day: float | None  #: how much is added; None if that cannot be told yet

    @property
    def days_left(self) -> float | None:
        """Return the days until the limit is reached or the disk is full; None if that cannot be told yet."""
        if not self.per_day:
            return None
        room = self.free if self.disk_is_full_first else self.limit - self.used
        return max(0.0, room / self.per_day)

    @property
    def disk_is_full_first(self) -> bool:
        """Return whether the disk is full before the limit is reached."""
        return not self.limit or self.free < self.limit - self.used

    def short(self) -> str:
        """Return a few words for the dashboard."""
        taken = f"{_gb(self.used)[:-3]} of {_gb(self.limit)}" if self.limit else _gb(self.used)
        days = self.days_left
        ahead = "" if days is None else ", limit reached" if days == 0.0 else f", full in {_days(days)}"
        if days is not None and self.disk_is_full_first:
            ahead = f", disk full in {_days(days)}"
        return f"{taken}{ahead}"

    def sentence(self) -> str:
        """Return the use and the forecast in words."""
        limit = f"of {_gb(self.limit)} that they may take" if self.limit else "without a limit"
        text = f"rollouts and caches take {_gb(self.used)} {limit}"
        if self.per_day:
            text += f", {_gb(self.per_day)} more each day"
        days, unused = self.days_left, self.used - self.removable
        if self.limit and self.used >= self.limit and unused >= self.limit:
            return f"{text}; {_gb(unused)} were not used by a cycle yet and are never removed"
        if days is None:
            return text
        if self.disk_is_full_first:
            remedy = "lower daemon.disk_budget_gb" if self.limit else "set daemon.disk_budget_gb"
            return f"{text}; the disk is full in {_days(days)} -> {remedy}, or free some space"
        when = "after each cycle" if days == 0.0 else f"in {_days(days)}"
        return f"{text}; the oldest used rollouts are removed {when}"


def measure(paths: ProjectPaths, ledger: Ledger, clock: Clock, *, budget_gb: float) -> DiskUse:
    """Return what rollouts and caches take now. Raises OSError if the disk cannot be read."""
    now_s = clock.utc_s()
    sizes, used = bytes_taken(paths, ledger.files())
    count, first_s = ledger.accepted_since(now_s - DAY_S)
    each = used / len(sizes) if sizes else 0.0
    return DiskUse(
        used=used,
        removable=sum(sizes.get(name, 0) for name, _ in ledger.used_files()),
        limit=limit_bytes(budget_gb),
        free=shutil.disk_usage(paths.training).free,
        per_day=per_day(count * each, now_s - first_s),
    )


def per_day(added_bytes: float, observed_s: float) -> float | None:
    """Return the bytes added in a day, from those added in the last `observed_s` seconds; None if that is too short."""
    return None if observed_s < MIN_OBSERVED_S else added_bytes * DAY_S / min(observed_s, DAY_S)


def limit_bytes(budget_gb: float) -> int:
    """Return how many bytes rollouts and caches may take together; 0 = no limit."""
    return int(budget_gb * GB)


def bytes_taken(paths: ProjectPaths, files: Mapping[str, tuple[FileSignature, str]]) -> tuple[dict[str, int], int]:
    """Return the bytes that each file in Exports takes with its arrays in the cache, and those of all files and arrays.

    `files` is what the ledger knows. Two files with the same content share their arrays. Raises OSError.
    """
    with opened_folder(paths.cache) as folder, os.scandir(paths.cache if folder is None else folder) as entries:
        caches = {Path(entry.name).stem: _size(entry) for entry in entries}
    sizes = {name: signature.size + caches.get(sha256, 0) for name, (signature, sha256) in files.items()}
    return sizes, sum(signature.size for signature, _ in files.values()) + sum(caches.values())


def over_budget(used: Sequence[str], sizes: Mapping[str, int], *, excess: int) -> list[str]:
    """Return the used files to remove, oldest first, so that at least `excess` bytes become free.

    `used` contains the names of used files, oldest first; `sizes` the bytes that each takes.
    """
    chosen = []
    for name in used:
        if excess <= 0:
            break
        chosen.append(name)
        excess -= sizes.get(name, 0)
    return chosen


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _gb(size: float) -> str:
    return f"{size / GB:.0f} GB" if size >= 100 * GB else f"{size / GB:.1f} GB"


def _days(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{24 * days:.0f} hours"
