"""Choose which of a job's rollouts are used, and read them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.errors import HotlapError, RolloutError
from schemas.job import Job, RolloutInput
from schemas.rollout.cache import load_rollout
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.meaning.separation import REMEDY, in_words
from schemas.rollout.reader import finished, read_rollout
from schemas.rollout.repeats import ROLLOUTS_COMPARED, RowSummary, find_repeats, rows_from_text, without_rows
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES, Rollout
from schemas.storage.files import read_with_retries, sha256_of
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import Notices
from trainer.common.rng import numpy_rng_for
from trainer.rollouts.quality import RolloutQuality, measure_quality

OLD_ROLLOUTS_WITHOUT_NEW = 10
"""Number of old rollouts that are used if no rollout is new."""
_FILES_READ_TOGETHER = 64
"""Old rollouts that are read before their experiences are counted."""


@dataclass(frozen=True, slots=True)
class LoadedRollout:
    """A rollout and its entry in the job."""

    entry: RolloutInput
    rollout: Rollout
    is_limited: bool = False  #: some of its numbers are not those of its file; see trainer.rollouts.outliers


def choose_rollouts(
    rollouts: Sequence[RolloutInput], *, history_ratio: float, seed: int, cycle: int
) -> list[RolloutInput]:
    """Return all new rollouts and `history_ratio` old ones for each, drawn with odds 1 / (1 + age).

    So a cycle's time and memory depend on the new rollouts, not on the length of the history. If no rollout is new,
    the youngest old ones are returned.
    """
    new = [r for r in rollouts if r.is_new]
    old = [r for r in rollouts if not r.is_new]
    if not new:
        return sorted(old, key=lambda r: r.age)[:OLD_ROLLOUTS_WITHOUT_NEW]
    count = min(len(old), math.ceil(history_ratio * len(new)))
    if not count:
        return new
    odds = np.array([1.0 / (1.0 + r.age) for r in old])
    rng = numpy_rng_for(seed, "history", cycle)
    chosen = rng.choice(len(old), size=count, replace=False, p=odds / odds.sum())
    return [*new, *(old[i] for i in sorted(chosen))]


def load_replay(
    rollouts: Sequence[RolloutInput], most: int, rules: ReadingRules, notices: Notices, cache: PrefetchCache
) -> list[LoadedRollout]:
    """Read all new rollouts, and the youngest old ones until there are `most` experiences.

    If no rollout is new, the youngest ones count as new: the number of gradient steps is that of a usual cycle.
    Raises RolloutError if no rollout can be used.
    """
    new = [r for r in rollouts if r.is_new]
    old = sorted((r for r in rollouts if not r.is_new), key=lambda r: r.age)
    if not new:
        new = [r.model_copy(update={"is_new": True}) for r in old[:OLD_ROLLOUTS_WITHOUT_NEW]]
        old = old[OLD_ROLLOUTS_WITHOUT_NEW:]
    loaded = load_rollouts(new, rules, notices, cache)
    size = sum(item.rollout.size for item in loaded)
    for start in range(0, len(old), _FILES_READ_TOGETHER):
        if size >= most:
            break
        some = old[start : start + _FILES_READ_TOGETHER]
        try:
            more = load_rollouts(some, rules, notices, cache)
        except RolloutError as error:
            notices.send("W_ROLLOUT_SKIPPED", f"{len(some)} old rollouts are left out: {error.message}")
            continue
        loaded = [*more, *loaded]
        size += sum(item.rollout.size for item in more)
    return loaded


def rules_of(job: Job) -> ReadingRules:
    """Return the rules under which the job's rollouts are read."""
    rules = ReadingRules(choice_names=job.choice_names, observation_limit=job.observation_limit)
    return rules.for_contract(job.contract, "model")


def load_rollouts(
    chosen: Sequence[RolloutInput], rules: ReadingRules, notices: Notices, cache: PrefetchCache
) -> list[LoadedRollout]:
    """Read the rollouts. Those that are missing, broken or do not fit the rules are left out, with a notice.

    Raises RolloutError if no rollout can be used.
    """
    loaded: list[LoadedRollout] = []
    left_out: list[str] = []
    repetitions = _Repetitions()
    problem = RolloutError(
        "the job has no rollout to train on", hint="let the engine write rollouts into Exports", code="E_NO_ROLLOUTS"
    )
    for entry in chosen:
        try:
            rollout = repetitions.leave_out(entry, _read(entry, rules, cache))
            if rollout is not None:
                loaded.append(LoadedRollout(entry, rollout))
        except HotlapError as error:
            left_out.append(entry.name)
            problem = RolloutError(f"{entry.name} cannot be used: {error.message}", hint=error.hint, code=error.code)
        except OSError as error:
            left_out.append(entry.name)
            problem = RolloutError(
                f"{entry.name} cannot be read: {error.strerror or error}",
                hint="check the permissions of the file, and the disk",
                code="E_OS",
            )
    if not loaded:
        raise problem
    _report_recovered(loaded, notices)
    repetitions.report(notices)
    if left_out:
        names = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
        notices.send(
            "W_ROLLOUT_SKIPPED", f"{len(left_out)} of {len(chosen)} rollouts are left out ({names}): {problem.message}"
        )
    return loaded


def _report_recovered(loaded: Sequence[LoadedRollout], notices: Notices) -> None:
    """Send a notice if agents had to be separated and no daemon has reported it."""
    found = {one.entry.name: one.rollout.recovered for one in loaded if one.rollout.recovered and not one.entry.cache}
    lowest = min(found, key=lambda name: found[name].confidence, default=None)
    if lowest is not None:
        more = f"; {len(found)} of {len(loaded)} rollouts, this one with the least confidence" if len(found) > 1 else ""
        notices.send("W_AGENTS_MIXED", f"{in_words(found[lowest], lowest)}{more}: {REMEDY}")


class _Repetitions:
    """Leaves out the experiences that were in earlier rollouts. A daemon has found them; otherwise they are found here.

    So memory and time depend on the last rollouts only, and the first file that contains an experience keeps it.
    """

    def __init__(self) -> None:
        self._earlier: deque[RowSummary] = deque(maxlen=ROLLOUTS_COMPARED)
        self._rollouts = self._rows = 0

    def leave_out(self, entry: RolloutInput, rollout: Rollout) -> Rollout | None:
        """Return a rollout without repeated experiences; None if all were in earlier ones. Raises RolloutError."""
        text = entry.repeated
        if text is None:
            summary = RowSummary.of(entry.name, rollout)
            found = find_repeats(summary, self._earlier)
            self._earlier.append(summary)
            self._rollouts, self._rows, text = self._rollouts + bool(found.count), self._rows + found.count, found.rows
        if not text:
            return rollout
        try:
            is_repeated = rows_from_text(text, rollout.size)
        except ValueError as error:
            raise RolloutError(f"its repeated experiences are not known: {error}", code="E_REPLACED") from None
        return None if is_repeated.all() else without_rows(rollout, is_repeated)

    def report(self, notices: Notices) -> None:
        """Send a notice about the repeated experiences that were found here."""
        if self._rollouts:
            notices.send(
                "W_CUMULATIVE",
                f"{self._rollouts} rollouts repeat {self._rows} experiences of earlier rollouts: each counts once. "
                "Empty the exporter's buffer after each export",
            )


def _read(entry: RolloutInput, rules: ReadingRules, cache: PrefetchCache) -> Rollout:
    prefetched: Rollout | None = cache.get(_key("rollout", entry, rules)) if entry.sha256 else None
    if prefetched is not None:
        return prefetched
    stored = load_rollout(Path(entry.cache), rules) if entry.cache else None
    if stored is not None:
        return stored
    if entry.cache and not Path(entry.source).is_file() and (other := load_rollout(Path(entry.cache))) is not None:
        return finished(other, rules)  # the file is gone: its arrays are used if they fit
    data = read_with_retries(Path(entry.source), limit=MAX_ROLLOUT_BYTES)
    if sha256_of(data) != entry.sha256:
        raise RolloutError(
            "the content of its file has changed", hint="the new content counts as another rollout", code="E_REPLACED"
        )
    return read_rollout(data, rules)


def prefetch_rollout(entry: RolloutInput, rules: ReadingRules, cache: PrefetchCache) -> Rollout:
    """Read and measure a rollout before its job arrives. Raises HotlapError or OSError."""
    complete = _read(entry, rules, cache)
    cache.put(_key("rollout", entry, rules), complete, size_bytes=2 * complete.observations.nbytes)
    rollout = _Repetitions().leave_out(entry, complete) or complete
    cache.put(_key("quality", entry, rules), measure_quality(rollout))
    return rollout


def quality_of(item: LoadedRollout, rules: ReadingRules, cache: PrefetchCache) -> RolloutQuality:
    """Return a rollout's quality measures, prefetched or measured now."""
    if item.is_limited or not item.entry.sha256:
        return measure_quality(item.rollout)
    prefetched: RolloutQuality | None = cache.get(_key("quality", item.entry, rules))
    return prefetched or measure_quality(item.rollout)


def _key(kind: str, entry: RolloutInput, rules: ReadingRules) -> tuple[object, ...]:
    return kind, entry.sha256, rules
