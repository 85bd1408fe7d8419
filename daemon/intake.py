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

from daemon.records import RolloutRow, Stamp
from schemas.contract import PolicyContract
from schemas.errors import HotlapError, RolloutError
from schemas.files import read_regular, sha256_of
from schemas.layout import Layout
from schemas.rollout import MAX_ROLLOUT_BYTES, Rollout
from schemas.rollout_cache import store_rollout
from schemas.rollout_reader import read_rollout


@dataclass(frozen=True, slots=True)
class Taken:
    """A whole rollout that keeps to the contract's form; its arrays lie in the cache."""

    stamp: Stamp
    row: RolloutRow
    contract: PolicyContract


@dataclass(frozen=True, slots=True)
class NotWhole:
    """A file that ends too early, or that cannot be read just now: worth another look when it changes."""

    name: str
    stamp: Stamp
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that will not get better."""

    name: str
    stamp: Stamp
    sha256: str | None
    code: str
    reason: str


Outcome = Taken | NotWhole | Refused


def take_in(folder: Path, name: str, stamp: Stamp, layout: Layout) -> Outcome:
    """Read one file and store its arrays. Never raises for what the file may hold."""
    path = folder / name
    sha256 = None
    try:
        name.encode()
        data = read_regular(path, limit=MAX_ROLLOUT_BYTES)
        if Stamp.of(os.lstat(path)) != stamp:
            return NotWhole(name, stamp, "E_CHANGING", "it changes while it is read")
        sha256 = sha256_of(data)
        rollout = read_rollout(data)
        store_rollout(layout.cached_rollout(sha256), rollout)
    except UnicodeEncodeError:
        return Refused(name, stamp, None, "E_NAME", "its name is not UTF-8 -> give it another")
    except RolloutError as error:
        if error.incomplete:
            return NotWhole(name, stamp, error.code, error.line())
        return Refused(name, stamp, sha256, error.code, error.line())
    except HotlapError as error:
        return Refused(name, stamp, sha256, error.code, error.line())
    except OSError as error:
        return NotWhole(name, stamp, "E_UNREADABLE", f"it cannot be read or stored: {error.strerror or error}")
    except MemoryError:
        return Refused(name, stamp, sha256, "E_TOO_BIG", "there is not enough memory to read it")
    return Taken(stamp, _row(name, stamp, sha256, rollout), rollout.contract)


def _row(name: str, stamp: Stamp, sha256: str, rollout: Rollout) -> RolloutRow:
    reward_mean = float(np.mean(rollout.rewards, dtype=np.float64))
    return RolloutRow(
        sha256=sha256,
        name=name,
        experiences=rollout.size,
        left_out=rollout.left_out,
        reward_mean=reward_mean if math.isfinite(reward_mean) else 0.0,
        policy_version=rollout.policy_version,
        written_s=stamp.mtime_ns / 1e9,
    )


class Intake:
    """Takes files in one after the other; the outcomes wait in `outcomes` and `wake` is called for each."""

    def __init__(self, layout: Layout, wake: Callable[[], None]) -> None:
        self._layout = layout
        self._wake = wake
        self._wanted: queue.SimpleQueue[tuple[str, Stamp] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._under_way: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="intake", daemon=True)
        self._thread.start()

    def want(self, name: str, stamp: Stamp) -> None:
        """Queue a file, unless it is under way already."""
        if name not in self._under_way:
            self._under_way.add(name)
            self._wanted.put((name, stamp))

    @property
    def busy(self) -> bool:
        """Tell whether files are still under way, their outcomes not yet collected."""
        return bool(self._under_way)

    def outcomes(self) -> list[Outcome]:
        """Give what is done since the last call."""
        done = []
        while not self._outcomes.empty():
            outcome = self._outcomes.get()
            self._under_way.discard(outcome.row.name if isinstance(outcome, Taken) else outcome.name)
            done.append(outcome)
        return done

    def close(self) -> None:
        """End the thread after the file in hand."""
        self._wanted.put(None)
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        while (item := self._wanted.get()) is not None:
            name, stamp = item
            try:
                outcome = take_in(self._layout.exports, name, stamp, self._layout)
            except Exception as error:  # noqa: BLE001  a bug here must not end the intake
                outcome = Refused(name, stamp, None, "E_BUG", f"reading it failed: {type(error).__name__}: {error}")
            self._outcomes.put(outcome)
            self._wake()
