"""Rows that repeat those of earlier rollouts: how they are found, and how they are left out.

An exporter that does not empty its buffer writes old rows again, in each file or in a sliding window; one with a bug
stores each row several times. Rows are compared by hashes of what the agent observed, did and earned, without the
agent's name: the names of recovered tracks differ from file to file.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions
from schemas.rollout.rollout import Bools, Float32, Int32, Rollout

UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]
ROLLOUTS_COMPARED = 16
"""A rollout is compared with this many earlier ones, which is enough for several clients."""
MIN_ROWS = 8
"""Fewer equal rows are not taken for a repetition. Rows that also occur twice in the new file do not count here: a car
that stands still repeats itself."""
DISTINCT_SHARE = 0.98
"""If at least this share of a file's rows differ from each other, an equal row in another file is a repetition.

In a game with few states equal rows are usual. There only a long sequence of rows is: the end of an earlier file that
is the beginning of this one.
"""
MIN_OVERLAP, MIN_DISTINCT_IN_OVERLAP = 32, 0.05
SAME_SHARE = 0.9
"""A file with only old rows is the same play again if it has at least this share of an earlier file's rows."""
NEARLY_SAME = 0.02
"""Two files are nearly the same if most rows differ by at most this much, in standard deviations of each column."""
_SAMPLE_ROWS = 64
_CONSECUTIVE = 4
"""A file is compared with this many before it to find out whether they are nearly the same."""
_ALL_UP_TO, _ONE_OF = 512, 8
"""In larger files one of eight rows is searched first; of 64 repeated rows, none is among these once in 5,000 files."""
_CHUNK_VALUES = 1 << 20
_NAN_BITS = np.uint32(0x7FC00000)


@dataclass(frozen=True, slots=True)
class RowSummary:
    """What is kept of a rollout, to compare later ones with it."""

    name: str
    hashes: UInt64  #: [n], one for each row
    sorted_hashes: UInt64
    sample_KC: Float32  #: observations and actions of a few rows

    @classmethod
    def of(cls, name: str, rollout: Rollout) -> RowSummary:
        """Return the summary of a rollout."""
        rows = np.linspace(0, rollout.size - 1, _SAMPLE_ROWS).astype(np.int64)
        sample = np.concatenate([rollout.observations[rows].astype(np.float32), rollout.actions[rows]], axis=1)
        return cls.stored(name, row_hashes(rollout), sample)

    @classmethod
    def stored(cls, name: str, hashes: UInt64, sample_KC: Float32) -> RowSummary:
        """Return the summary with these columns. Raises ValueError if they are not those of a summary."""
        is_sample = sample_KC.dtype == np.float32 and sample_KC.ndim == 2 and bool(np.isfinite(sample_KC).all())
        if hashes.dtype != np.uint64 or hashes.ndim != 1 or not len(hashes) or not is_sample:
            raise ValueError(f"not a summary: {hashes.dtype} {hashes.shape} {sample_KC.shape}")
        return cls(name, hashes, np.sort(hashes), sample_KC)

    def few_hashes(self) -> UInt64:
        """Return some of the hashes, always the same of equal rows: enough to notice a repetition at little cost."""
        if len(self.hashes) <= _ALL_UP_TO:
            return self.sorted_hashes
        is_chosen: Bools = self.sorted_hashes % np.uint64(_ONE_OF) == 0
        return self.sorted_hashes[is_chosen]

    def contains(self, hashes: UInt64) -> Bools:
        """Return which of these hashes this rollout has."""
        positions = np.searchsorted(self.sorted_hashes, hashes).clip(max=len(self.sorted_hashes) - 1)
        return np.asarray(self.sorted_hashes[positions] == hashes, dtype=bool)


@dataclass(frozen=True, slots=True)
class Repeats:
    """What a rollout has in common with itself and with earlier rollouts."""

    rows: str = ""  #: the rows that do not count, because they were written before; see `rows_to_text`
    count: int = 0  #: how many these are
    earlier: str = ""  #: the name of an earlier rollout with the same rows, or nearly the same
    is_same: bool = False  #: it is `earlier` again, in other bytes: the same play, not a buffer that was not emptied
    is_nearly_same: bool = False  #: all rows are new, but nearly those of `earlier`
    copies: int = 1  #: how many times the file contains each of its rows


def row_hashes(rollout: Rollout) -> UInt64:
    """Return a 64-bit hash of each row's observation, action, reward and log_prob. 0.0 and -0.0 are equal, and NaNs."""
    space = rollout.contract.action_space
    actions = rollout.actions
    if isinstance(space, ContinuousActions):  # the settings may have changed their order since an earlier file was read
        actions = actions[:, sorted(range(space.width), key=lambda k: space.names[k])]
    columns = (rollout.observations, actions, rollout.rewards[:, None], rollout.log_probs[:, None])
    width = sum(column.shape[1] for column in columns)
    salt = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    step = max(1, _CHUNK_VALUES // width)
    parts = []
    for start in range(0, rollout.size, step):
        some = [column[start : start + step].astype(np.float32, copy=False) for column in columns]
        values = np.concatenate(some, axis=1) + np.float32(0.0)
        bits = np.where(np.isnan(values), _NAN_BITS, values.view(np.uint32)).astype(np.uint64)
        parts.append(_mixed(_mixed(bits + salt).sum(axis=1, dtype=np.uint64)))
    return np.concatenate(parts)


def _mixed(x: UInt64) -> UInt64:
    """Return a bijection of 64-bit numbers in which each bit depends on all others (splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def find_repeats(new: RowSummary, earlier: Iterable[RowSummary]) -> Repeats:
    """Compare a rollout with earlier ones, of which the newest is last."""
    earlier = tuple(earlier)
    n = len(new.hashes)
    distinct = 1 + int((new.sorted_hashes[1:] != new.sorted_hashes[:-1]).sum())
    is_repeated, copies = _copies_within(new.hashes) if distinct < n else (np.zeros(n, dtype=bool), 1)
    rows = np.flatnonzero(~is_repeated)
    hashes = new.hashes[rows]
    name = ""
    if distinct >= DISTINCT_SHARE * len(hashes):
        few = new.few_hashes()
        similar = [one for one in earlier if one.contains(few).any()]
        found = [one.contains(hashes) for one in similar]
        seen = np.logical_or.reduce(found) if found else np.zeros(len(hashes), dtype=bool)
        if seen.sum() >= MIN_ROWS and (seen & _occur_once(hashes)).sum() >= MIN_ROWS:
            is_repeated[rows[seen]] = True
            name = similar[int(np.argmax([one.sum() for one in found]))].name
    else:
        lengths = [_overlap(one.hashes, hashes) for one in earlier]
        if any(lengths):
            longest = max(range(len(lengths)), key=lengths.__getitem__)
            is_repeated[rows[: lengths[longest]]] = True
            name = earlier[longest].name
    if is_repeated.all() and any(one.name == name and n >= SAME_SHARE * len(one.hashes) for one in earlier):
        return Repeats(earlier=name, is_same=True)
    if is_repeated.any():
        return Repeats(rows_to_text(is_repeated), int(is_repeated.sum()), name, copies=copies)
    for one in reversed(earlier[-_CONSECUTIVE:]):
        if len(one.hashes) == n and _are_nearly_same(one.sample_KC, new.sample_KC):
            return Repeats(earlier=one.name, is_nearly_same=True)
    return Repeats()


def _occur_once(hashes: UInt64) -> Bools:
    """Return which of the hashes occur only once among them."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] == 1, dtype=bool)


def _copies_within(hashes: UInt64) -> tuple[Bools, int]:
    """Return which rows are copies of earlier rows of the same file, if it contains every row equally often."""
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    copies = int(counts.min())
    is_copy = np.zeros(len(hashes), dtype=bool)
    if copies < 2 or copies != counts.max() or len(first) < MIN_ROWS:
        return is_copy, 1
    is_copy[:] = True
    is_copy[first] = False
    return is_copy, copies


def _overlap(old: UInt64, new: UInt64) -> int:
    """Return how many rows at the beginning of `new` are the last rows of `old`, in the same order; 0 if too few."""
    for start in np.flatnonzero(old == new[0]) if len(new) else ():
        length = len(old) - int(start)
        if length < MIN_OVERLAP:
            break
        if length <= len(new) and np.array_equal(old[start:], new[:length]):
            is_varied = len(np.unique(new[:length])) >= max(MIN_ROWS, MIN_DISTINCT_IN_OVERLAP * length)
            return length if is_varied else 0
    return 0


def _are_nearly_same(one_KC: Float32, other_KC: Float32) -> bool:
    if one_KC.shape != other_KC.shape:
        return False
    spread_C = one_KC.astype(np.float64).std(axis=0)
    varies_C = spread_C > 1e-9
    if not varies_C.any():
        return False
    difference_KC = np.abs(one_KC[:, varies_C].astype(np.float64) - other_KC[:, varies_C]) / spread_C[varies_C]
    return bool(np.median(difference_KC.max(axis=1)) < NEARLY_SAME)


def rows_to_text(mask: Bools) -> str:
    """Return a column of flags as short text: packed, compressed, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def rows_from_text(text: str, size: int) -> Bools:
    """Return the flags that `rows_to_text` made. Raises ValueError if it did not make this text for `size` rows."""
    try:
        packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(packed) != -(-size // 8):
        raise ValueError(f"{len(packed)} bytes for {size} rows")
    return np.unpackbits(packed, count=size).astype(bool)


def without_rows(rollout: Rollout, is_repeated: Bools) -> Rollout:
    """Return the rollout without repeated rows, but with those whose next row is new.

    Such a row was the last one of its agent in an earlier file, where its next state was unknown. So the advantages of
    all rows that remain are those that they have in the complete file.
    """
    order, is_first = _by_agent(rollout.agents)
    keep, has_gap = ~is_repeated[order], rollout.after_gap[order]
    ended = (rollout.terminated | rollout.truncated)[order]
    original = _originals(rollout, order)
    leads_to_new = np.append(keep[1:] & ~is_first[1:] & ~has_gap[1:], False)
    keep |= leads_to_new & ~ended & ~keep[original]
    # The row before may be left out because it is a copy: then its original is the row before.
    before_is_kept = np.append(False, keep[original][:-1] | keep[:-1])
    after_gap = np.zeros(rollout.size, dtype=bool)
    after_gap[order] = has_gap | (~is_first & ~before_is_kept)
    return _selected(rollout, np.sort(order[keep]), after_gap)


def _by_agent(agents: Int32) -> tuple[Int64, Bools]:
    """Return the rows in agent-major order, and which of them are the first of their agent."""
    order = np.argsort(agents, kind="stable")
    return order, np.append(True, agents[order][1:] != agents[order][:-1])


def _originals(rollout: Rollout, order: Int64) -> Int64:
    """Return for each row, in agent-major order, the first of the equal rows of its agent that end with it."""
    is_copy = np.append(False, rollout.agents[order][1:] == rollout.agents[order][:-1])
    for column in (rollout.observations, rollout.actions, rollout.rewards[:, None], rollout.log_probs[:, None]):
        ordered = column[order]
        is_equal = (ordered[1:] == ordered[:-1]) | (np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
        is_copy[1:] &= is_equal.all(axis=1)
    return np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(order))))


def _selected(rollout: Rollout, rows: Int64, after_gap: Bools) -> Rollout:
    """Return a rollout with these rows. Final observations remain if the last row of their agent does."""
    columns: dict[str, Any] = {field.name: getattr(rollout, field.name) for field in fields(rollout)}
    for name, value in columns.items():
        if isinstance(value, np.ndarray) and not name.startswith("final_"):
            columns[name] = value[rows]
    columns["after_gap"] = after_gap[rows]
    columns["reward_parts"] = {name: part[rows] for name, part in rollout.reward_parts.items()}
    last_row = {int(agent): row for row, agent in enumerate(rollout.agents)}
    kept = set(rows.tolist())
    keep_final = np.array([last_row.get(int(agent)) in kept for agent in rollout.final_agents], dtype=bool)
    columns["final_observations"] = rollout.final_observations[keep_final]
    columns["final_agents"] = rollout.final_agents[keep_final]
    if rollout.final_critic_observations is not None:
        columns["final_critic_observations"] = rollout.final_critic_observations[keep_final]
    return Rollout(**columns)
