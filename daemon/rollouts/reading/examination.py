"""Compares each rollout with the ones before it, on the reader's thread: repeated rows, and two `done` in a row."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import zipfile
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from daemon.ledger.records import RolloutRow
from schemas.errors import HotlapError
from schemas.rollout.cache import load_rollout
from schemas.rollout.repeats import ROLLOUTS_COMPARED, Repeats, RowSummary, find_repeats, rows_from_text
from schemas.rollout.rollout import Rollout
from schemas.storage.files import Disk, read_with_retries, write_atomic
from schemas.storage.layout import ProjectPaths

ROWS_REMEMBERED = 1 << 20
_MAX_SUMMARY_BYTES = 1 << 29
_ONE_STEP_EPISODES = 0.5
"""If more steps than this end an episode, episodes of one step belong to the game."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is unusual about a rollout."""

    repeats: Repeats = field(default_factory=Repeats)
    double_done: str = ""  #: where an agent has two `done` in a row, in words; empty if none has


class Examiner:
    """Remembers the last rollouts. `recent` are those of an earlier daemon, oldest first: name and SHA-256."""

    def __init__(self, paths: ProjectPaths, recent: Sequence[tuple[str, str]]) -> None:
        self._paths = paths
        self._recent = list(recent)
        self._known: deque[tuple[str, RowSummary]] = deque()

    def examine(self, row: RolloutRow) -> tuple[RolloutRow, Findings]:
        """Compare a rollout that was just stored; return its row with only the experiences that count.

        A file that is read again is compared with the rollouts that came before it, so that the result is the same.
        """
        self._load_recent()
        rollout = load_rollout(self._paths.cached_rollout(row.sha256))
        if rollout is None:
            return row, Findings()
        summary = RowSummary.of(row.name, rollout)
        place = next((k for k, (sha256, _) in enumerate(self._known) if sha256 == row.sha256), None)
        repeats = find_repeats(summary, [known for _, known in list(self._known)[:place]])
        if place is None:
            self._remember(row.sha256, summary)
        else:
            self._known[place] = (row.sha256, summary)
        findings = Findings(repeats, find_double_done(rollout))
        if not repeats.count:
            return row, findings
        rewards = rollout.rewards[~rows_from_text(repeats.rows, rollout.size)]
        mean = float(np.mean(rewards, dtype=np.float64)) if len(rewards) else 0.0
        counted = dataclasses.replace(row, experiences=len(rewards), reward_mean=mean, repeated=repeats.rows)
        return counted, findings

    def save(self, disk: Disk) -> None:
        """Store what is remembered, because the arrays of used rollouts may be removed. May be called on any thread."""
        known = list(self._known)
        if not known:
            return
        arrays: dict[str, Any] = {f"hashes_{k}": summary.hashes for k, (_, summary) in enumerate(known)}
        arrays |= {f"sample_{k}": summary.sample_KC for k, (_, summary) in enumerate(known)}
        names = orjson.dumps([(sha256, summary.name) for sha256, summary in known])
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, names=np.frombuffer(names, dtype=np.uint8), **arrays)
        with contextlib.suppress(OSError):  # it is only needed after a restart, and written again
            write_atomic(self._paths.compared_rollouts, file.getvalue(), disk=disk, durable=False)

    def _load_recent(self) -> None:
        recent, self._recent = self._recent, []
        stored = _load_summaries(self._paths.compared_rollouts) if recent else {}
        for name, sha256 in recent:
            if sha256 in stored:
                self._remember(sha256, stored[sha256])
            elif (rollout := load_rollout(self._paths.cached_rollout(sha256))) is not None:
                self._remember(sha256, RowSummary.of(name, rollout))

    def _remember(self, sha256: str, summary: RowSummary) -> None:
        self._known.append((sha256, summary))
        while len(self._known) > 1 and (
            len(self._known) > ROLLOUTS_COMPARED or sum(len(known.hashes) for _, known in self._known) > ROWS_REMEMBERED
        ):
            self._known.popleft()


def _load_summaries(path: Path) -> dict[str, RowSummary]:
    """Return the summaries that `save` stored, by content hash; none if the file is missing, damaged or wrong."""
    try:
        data = read_with_retries(path, limit=_MAX_SUMMARY_BYTES)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            names = orjson.loads(file["names"].tobytes())
            if not all(isinstance(text, str) for pair in names for text in pair):
                return {}
            return {
                sha256: RowSummary.stored(name, file[f"hashes_{k}"], file[f"sample_{k}"])
                for k, (sha256, name) in enumerate(names)
            }
    except (OSError, HotlapError, MemoryError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return {}
    except (OverflowError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error):  # of odd zip files
        return {}


def find_double_done(rollout: Rollout) -> str:
    """Return where an agent's episode ends twice without a step between, in words; empty if none does."""
    order = np.argsort(rollout.agents, kind="stable")
    ended = (rollout.terminated | rollout.truncated)[order]
    if not ended.any() or ended.mean() > _ONE_STEP_EPISODES:
        return ""
    same_agent = rollout.agents[order][1:] == rollout.agents[order][:-1]
    double = np.flatnonzero(ended[1:] & ended[:-1] & same_agent & ~rollout.after_gap[order][1:])
    if not len(double):
        return ""
    first, second = int(order[double[0]]), int(order[double[0] + 1])
    times = "once" if len(double) == 1 else f"{len(double)} times"
    return f"{times}, first for agent {rollout.agents[first]} in experiences {first} and {second} (counted from 0)"
