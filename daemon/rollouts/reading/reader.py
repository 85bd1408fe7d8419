"""Reads, checks and stores rollouts on another thread, so that the service never waits for a file."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from daemon.ledger.records import FileSignature, RolloutRow
from daemon.rollouts.reading.examination import Examiner, Findings
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.in_the_way import is_folder
from schemas.contract import PolicyContract
from schemas.errors import HotlapError, RolloutError
from schemas.rollout.cache import store_rollout
from schemas.rollout.encoding import is_costly_encoding
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.meaning.separation import has_shared_index, separate_agents
from schemas.rollout.reader import finished, parse_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES, LeftOut, Recovered, Rollout
from schemas.storage.careful_open import LinkInTheWay
from schemas.storage.files import REAL_DISK, Disk, read_regular, sha256_of
from schemas.storage.held_open import is_surely_held_open, may_be_held_open
from schemas.storage.layout import ProjectPaths
from schemas.storage.set_aside import set_aside
from schemas.storage.windows_paths import for_system
from schemas.text import printable


@dataclass(frozen=True, slots=True)
class Accepted:
    """A complete and valid rollout; its arrays are in the cache."""

    signature: FileSignature
    row: RolloutRow
    contract: PolicyContract
    states_bounds: bool = True  #: whether the file itself states the bounds of its actions
    causes: tuple[LeftOut, ...] = ()  #: why experiences were left out
    recovered: Recovered | None = None  #: set if several agents shared an agent_index
    has_costly_encoding: bool = False  #: UTF-16 or UTF-32, which takes two to four times the space
    findings: Findings = field(default_factory=Findings)  #: of a comparison with earlier rollouts


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A file that is not complete or cannot be read at the moment. It is read again later."""

    name: str
    signature: FileSignature
    code: str
    reason: str
    reason_if_lasting: str = ""  #: of E_PERMISSION, if Windows reports an open file and a missing permission alike


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that cannot become valid."""

    name: str
    signature: FileSignature
    sha256: str | None
    code: str
    reason: str
    may_grow: bool = False  #: it was incomplete: its writer may still be writing it


Outcome = Accepted | Incomplete | Rejected
LARGE_BYTES = 4_000_000
"""Larger files are read in another process: parsing one would block all threads of this process."""


def ingest(
    folder: Path,
    name: str,
    signature: FileSignature,
    paths: ProjectPaths,
    rules: ReadingRules = NO_RULES,
    *,
    disk: Disk = REAL_DISK,
    separate: Callable[[Rollout], Rollout] = separate_agents,
) -> Outcome:
    """Read one file under these rules and store its arrays.

    Raises only what `separate` raises in addition to RolloutError, whatever the file contains.
    """
    path = folder / name
    sha256 = None
    try:
        name.encode()
        data = read_regular(path, limit=MAX_ROLLOUT_BYTES)
        if FileSignature.of(os.lstat(for_system(path))) != signature:
            return Incomplete(name, signature, "E_CHANGING", "it changed while it was read")
        sha256 = sha256_of(data)
        parsed = parse_rollout(data, rules)
        rollout = separate(finished(parsed, rules))
    except UnicodeEncodeError:
        return Rejected(name, signature, None, "E_NAME", "its name is not valid UTF-8 -> rename it [E_NAME]")
    except RolloutError as error:
        if error.incomplete:
            return Incomplete(name, signature, error.code, error.line())
        return Rejected(name, signature, sha256, error.code, error.line())
    except HotlapError as error:
        return Rejected(name, signature, sha256, error.code, error.line())
    except OSError as error:
        return _unreadable(name, signature, error)
    except MemoryError:
        reason = "the memory is not enough to read it -> write fewer experiences per file [E_TOO_BIG]"
        return Rejected(name, signature, sha256, "E_TOO_BIG", reason)
    try:
        store_rollout(paths.cached_rollout(sha256), rollout, rules, disk=disk)
    except OSError as error:
        remedy = "remove the link" if isinstance(error, LinkInTheWay) else "free some disk space"
        reason = f"its arrays cannot be stored: {error.strerror} -> {remedy} [E_STORE]"
        with contextlib.suppress(OSError):
            if is_folder(paths.cached_rollout(sha256)):
                moved = set_aside(paths.cached_rollout(sha256), at_s=REAL_CLOCK.utc_s(), disk=disk)
                reason = f"a folder was in the place of its arrays: it was moved to State/cache/{moved.name} [E_STORE]"
        return Incomplete(name, signature, "E_STORE", reason)
    return Accepted(
        signature,
        _row(name, signature, sha256, rollout),
        rollout.contract,
        states_bounds=parsed.states_bounds,
        causes=rollout.causes,
        recovered=rollout.recovered,
        has_costly_encoding=is_costly_encoding(data),
    )


def _unreadable(name: str, signature: FileSignature, error: OSError) -> Incomplete:
    """Return the outcome for a file that cannot be read at the moment, with the reason and the remedy."""
    if isinstance(error, FileNotFoundError):
        return Incomplete(name, signature, "E_GONE", "it was removed while it was read")
    held_open = "another program has it open [E_HELD_OPEN]"
    if is_surely_held_open(error):
        return Incomplete(name, signature, "E_HELD_OPEN", held_open)
    remedy = "allow the user who runs the daemon to read it"
    if may_be_held_open(error):
        lasting = f"reading it is not permitted, or another program has it open ({error.strerror})"
        lasting += f" -> {remedy}, or end that program [E_PERMISSION]"
        return Incomplete(name, signature, "E_HELD_OPEN", held_open, lasting)
    if isinstance(error, PermissionError):
        reason = f"reading it is not permitted ({error.strerror})"
        return Incomplete(name, signature, "E_PERMISSION", f"{reason} -> {remedy} [E_PERMISSION]")
    remedy = "check the disk, or the program that synchronises the folder, such as OneDrive"
    return Incomplete(
        name, signature, "E_UNREADABLE", f"it cannot be read ({error.strerror}) -> {remedy} [E_UNREADABLE]"
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


class _SharedIndexError(Exception):
    """Several agents share an agent_index."""


def _require_separated(rollout: Rollout) -> Rollout:
    """Return the rollout. Raises _SharedIndexError if its agents must be separated, which takes much memory."""
    if has_shared_index(rollout):
        raise _SharedIndexError
    return rollout


def compare_with_earlier(outcome: Outcome, examiner: Examiner) -> Outcome:
    """Return an outcome in which, if it is a rollout, only experiences count that no earlier rollout has."""
    if not isinstance(outcome, Accepted):
        return outcome
    row, findings = examiner.examine(outcome.row)
    return dataclasses.replace(outcome, row=row, findings=findings)


class RolloutReader:
    """Reads the requested files one after the other. Calls `wake` for the first outcome after all were collected.

    `recent` are the rollouts that an earlier daemon accepted last, oldest first.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        wake: Callable[[], None],
        disk: Disk = REAL_DISK,
        read_large: Callable[[str, FileSignature, ReadingRules], Outcome] | None = None,
        recent: Sequence[RolloutRow] = (),
    ) -> None:
        self._paths = paths
        self._examiner = Examiner(paths, [(row.name, row.sha256) for row in recent])
        self._read_large = read_large
        self._disk = disk
        self._wake = wake
        self._requests: queue.SimpleQueue[tuple[str, FileSignature, ReadingRules] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._queued: set[str] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="rollout reader", daemon=True)
        self._thread.start()

    def request(self, name: str, signature: FileSignature, rules: ReadingRules = NO_RULES) -> None:
        """Queue a file, unless it is queued already."""
        if name not in self._queued:
            self._queued.add(name)
            self._requests.put((name, signature, rules))

    @property
    def is_busy(self) -> bool:
        """Return whether a file is queued or its outcome was not collected yet."""
        return bool(self._queued)

    @property
    def queued_count(self) -> int:
        """Return how many files are queued or have an outcome that was not collected yet."""
        return len(self._queued)

    def collect_outcomes(self, limit: int) -> list[Outcome]:
        """Return at most `limit` outcomes that were not collected yet, in the order of the requests."""
        collected: list[Outcome] = []
        while len(collected) < limit and not self._outcomes.empty():
            outcome = self._outcomes.get()
            self._queued.discard(outcome.row.name if isinstance(outcome, Accepted) else outcome.name)
            collected.append(outcome)
        return collected

    def save_comparison(self) -> None:
        """Store what is known of the last rollouts, to compare later ones after a restart."""
        self._examiner.save(self._disk)

    def close(self) -> None:
        """End the thread as soon as the current file is read."""
        self._is_closed = True
        self._requests.put(None)
        self._thread.join(timeout=5.0)

    def _read(self, name: str, signature: FileSignature, rules: ReadingRules) -> Outcome:
        if self._read_large is not None and signature.size > LARGE_BYTES:
            outcome = self._read_large(name, signature, rules)
        else:
            outcome = self._read_small(name, signature, rules)
        return compare_with_earlier(outcome, self._examiner)

    def _read_small(self, name: str, signature: FileSignature, rules: ReadingRules) -> Outcome:
        """Read a file here, or in another process if its agents must be separated."""
        separate = separate_agents if self._read_large is None else _require_separated
        try:
            return ingest(self._paths.exports, name, signature, self._paths, rules, disk=self._disk, separate=separate)
        except _SharedIndexError:
            assert self._read_large is not None
            return self._read_large(name, signature, rules)

    def _work(self) -> None:
        while (item := self._requests.get()) is not None and not self._is_closed:
            name, signature, rules = item
            try:
                outcome = self._read(name, signature, rules)
            except Exception as error:  # noqa: BLE001  a bug in `_read` must not end the thread
                reason = printable(f"reading it failed: {type(error).__name__}: {error} -> please report it [E_BUG]")
                outcome = Rejected(name, signature, None, "E_BUG", reason)
            is_first = self._outcomes.empty()
            self._outcomes.put(outcome)
            if is_first:
                self._wake()
