"""Parse, check and store rollouts on a thread of its own, so that the deciding thread is never held up."""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.ledger.records import FileSignature, RolloutRow
from schemas.contract import PolicyContract
from schemas.errors import HotlapError, RolloutError
from schemas.rollout.cache import store_rollout
from schemas.rollout.encoding import is_costly_encoding
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES, Rollout
from schemas.storage.files import REAL_DISK, Disk, read_regular, sha256_of
from schemas.storage.layout import ProjectPaths
from schemas.text import printable


@dataclass(frozen=True, slots=True)
class Accepted:
    """A whole rollout that keeps to the contract's form; its arrays lie in the cache."""

    signature: FileSignature
    row: RolloutRow
    contract: PolicyContract
    has_costly_encoding: bool = False  #: in an encoding that takes two to four times the room


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A file that ends too early, or that cannot be read just now: worth another look when it changes."""

    name: str
    signature: FileSignature
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that will not get better."""

    name: str
    signature: FileSignature
    sha256: str | None
    code: str
    reason: str


Outcome = Accepted | Incomplete | Rejected
_HELD_OPEN_WINERRORS = frozenset({32, 33})
LARGE_BYTES = 4_000_000
"""Files above this are read in another process: a call that parses one holds up all threads of this."""


def ingest(
    folder: Path, name: str, signature: FileSignature, paths: ProjectPaths, *, disk: Disk = REAL_DISK
) -> Outcome:
    """Read one file and store its arrays. Never raises for what the file may hold."""
    path = folder / name
    sha256 = None
    try:
        name.encode()
        data = read_regular(path, limit=MAX_ROLLOUT_BYTES)
        if FileSignature.of(os.lstat(path)) != signature:
            return Incomplete(name, signature, "E_CHANGING", "it changes while it is read")
        sha256 = sha256_of(data)
        rollout = read_rollout(data)
    except UnicodeEncodeError:
        return Rejected(name, signature, None, "E_NAME", "its name is not UTF-8 -> give it another [E_NAME]")
    except RolloutError as error:
        if error.incomplete:
            return Incomplete(name, signature, error.code, error.line())
        return Rejected(name, signature, sha256, error.code, error.line())
    except HotlapError as error:
        return Rejected(name, signature, sha256, error.code, error.line())
    except OSError as error:
        return _unreadable(name, signature, error)
    except MemoryError:
        reason = "there is not enough memory to read it -> write fewer experiences a file [E_TOO_BIG]"
        return Rejected(name, signature, sha256, "E_TOO_BIG", reason)
    try:
        store_rollout(paths.cached_rollout(sha256), rollout, disk=disk)
    except OSError as error:
        reason = f"its arrays cannot be stored: {error.strerror} -> is the disk full? [E_STORE]"
        return Incomplete(name, signature, "E_STORE", reason)
    return Accepted(signature, _row(name, signature, sha256, rollout), rollout.contract, is_costly_encoding(data))


def _unreadable(name: str, signature: FileSignature, error: OSError) -> Incomplete:
    """Say why a file cannot be read just now, and whether a person must do something about it."""
    if isinstance(error, FileNotFoundError):
        return Incomplete(name, signature, "E_GONE", "it was there a moment ago")
    if getattr(error, "winerror", None) in _HELD_OPEN_WINERRORS:
        return Incomplete(name, signature, "E_HELD_OPEN", "another program holds it open [E_HELD_OPEN]")
    if isinstance(error, PermissionError):
        remedy = "give the daemon's user the right to read it [E_PERMISSION]"
        return Incomplete(name, signature, "E_PERMISSION", f"it may not be read ({error.strerror}) -> {remedy}")
    return Incomplete(
        name, signature, "E_UNREADABLE", f"it cannot be read ({error.strerror}) -> is the disk well? [E_UNREADABLE]"
    )


def _row(name: str, signature: FileSignature, sha256: str, rollout: Rollout) -> RolloutRow:
    reward_mean = float(np.mean(rollout.rewards, dtype=np.float64))
    return RolloutRow(
        sha256=sha256,
        name=name,
        experiences=rollout.size,
        left_out=rollout.left_out,
        reward_mean=reward_mean if math.isfinite(reward_mean) else 0.0,
        policy_version=rollout.policy_version,
        written_s=signature.mtime_ns / 1e9,
    )


class RolloutReader:
    """Takes files in one after the other; `wake` is called when outcomes begin to wait to be collected."""

    def __init__(
        self,
        paths: ProjectPaths,
        wake: Callable[[], None],
        disk: Disk = REAL_DISK,
        aside: Callable[[str, FileSignature], Outcome] | None = None,
    ) -> None:
        self._paths = paths
        self._aside = aside
        self._disk = disk
        self._wake = wake
        self._wanted: queue.SimpleQueue[tuple[str, FileSignature] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._under_way: set[str] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="intake", daemon=True)
        self._thread.start()

    def request(self, name: str, signature: FileSignature) -> None:
        """Queue a file, unless it is under way already."""
        if name not in self._under_way:
            self._under_way.add(name)
            self._wanted.put((name, signature))

    @property
    def is_busy(self) -> bool:
        """Return whether files are still under way, their outcomes not yet collected."""
        return bool(self._under_way)

    @property
    def queued_count(self) -> int:
        """How many those are."""
        return len(self._under_way)

    def collect_outcomes(self, limit: int) -> list[Outcome]:
        """Return what is done since the last call, at most `limit`, in the order in which it was wanted."""
        done: list[Outcome] = []
        while len(done) < limit and not self._outcomes.empty():
            outcome = self._outcomes.get()
            self._under_way.discard(outcome.row.name if isinstance(outcome, Accepted) else outcome.name)
            done.append(outcome)
        return done

    def close(self) -> None:
        """End the thread after the file in hand."""
        self._is_closed = True
        self._wanted.put(None)
        self._thread.join(timeout=5.0)

    def _take_in(self, name: str, signature: FileSignature) -> Outcome:
        if self._aside is not None and signature.size > LARGE_BYTES:
            return self._aside(name, signature)
        return ingest(self._paths.exports, name, signature, self._paths, disk=self._disk)

    def _work(self) -> None:
        while (item := self._wanted.get()) is not None and not self._is_closed:
            name, stamp = item
            try:
                outcome = self._take_in(name, stamp)
            except Exception as error:  # noqa: BLE001  a bug here must not end the intake
                reason = printable(f"reading it failed: {type(error).__name__}: {error} -> please report it [E_BUG]")
                outcome = Rejected(name, stamp, None, "E_BUG", reason)
            is_first = self._outcomes.empty()
            self._outcomes.put(outcome)
            if is_first:
                self._wake()
