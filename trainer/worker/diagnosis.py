"""Finds out why a training failed: because of some rollouts, because of the parent, or for another reason.

Each suspicion is tested: the training must work without the suspects, or without the parent. The order is that of how
likely the cause is: rollouts with very large values, then any rollouts, by halves, then the parent.
"""

from __future__ import annotations

import logging
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError, ContractError, HotlapError, ModelError
from schemas.job import EpochDone, Job, Notice, RolloutInput, Selecting, Suspect
from trainer.checkpoints.parent import open_parent
from trainer.common.exit_codes import ExplainedError, is_temporary
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter, Notices, Reporter
from trainer.rollouts.loading import LoadedRollout, load_rollouts, rules_of
from trainer.worker.suspects import FarValue, far_values

MOST_TRIALS = 16
LEAST_S, TIMES_AS_LONG = 60.0, 4.0
"""Trials end after this time, or after this many times the seconds of the failed training, whichever is longer."""
ALL_S = 6000.0
"""So long may all take together, which is less than daemon.training_timeout_s unless a user has changed that."""
_FAR = (1000.0, 20.0)
"""Values so many times as far from the centre as usual are suspected first, then those."""
_MOST_CULPRITS = 3
"""How many rollouts are searched for if none of them has very large values."""
_MOST_OLD = 500
_log = logging.getLogger(__name__)

Train = Callable[[Job, Reporter, PrefetchCache], object]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What caused a failure, as far as it is known."""

    suspects: tuple[Suspect, ...] = ()
    blames_parent: bool = False


def explained(error: Exception, job: Job, reporter: Reporter, train: Train, *, seconds: float) -> Exception:
    """Return the error of a training with the cause that was found, or the error itself.

    `train` does what failed, and `seconds` is how long it took.
    """
    if not _may_be_explained(error):
        return error
    traceback.clear_frames(error.__traceback__)  # they keep the data of the failed training in memory
    try:
        found = _Search(error, job, reporter, train, search_limit_s(seconds)).run()
    except Exception:  # noqa: BLE001  the first error is the one to report
        _log.exception("the cause of the failure was not found")
        return error
    if not (found.suspects or found.blames_parent):
        return error
    return ExplainedError(error, found.suspects, blames_parent=found.blames_parent)


def search_limit_s(seconds: float) -> float:
    """Return after how long no other trial begins. `seconds` is how long the failed training took: so does a trial."""
    return min(max(LEAST_S, TIMES_AS_LONG * seconds), ALL_S - 2.0 * seconds)


def _may_be_explained(error: Exception) -> bool:
    """Return whether rollouts or the parent can have caused an error; settings, the disk and memory are not meant."""
    if is_temporary(error) or isinstance(error, ConfigError | ContractError):
        return False
    if isinstance(error, HotlapError):
        return isinstance(error, ModelError) or error.code == "E_NO_MODEL"
    return True


class _TimeIsUp(Exception):
    """The trials took too long, or there were too many."""


class _Silent:
    """Reports that the cause is searched for, and none of the events of a trial."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._done = 0.0

    def begin(self, trial: int) -> None:
        """Report that a trial begins."""
        self._done = float(trial)
        self.report_activity("", 0.0)

    def report_activity(self, activity: str, progress: float) -> None:
        """Report the search instead of the activity; its progress grows as long as trials make progress."""
        del activity
        share = 1.0 - 0.01 * 0.8 ** (self._done + progress)
        self._reporter.report_activity("looking for the cause of the failure", share)

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Leave out an event of a trial."""


class _Search:
    """The search for the cause of one failure."""

    def __init__(self, error: Exception, job: Job, reporter: Reporter, train: Train, limit_s: float) -> None:
        self._error, self._job, self._train = error, job, train
        self._reporter = _Silent(reporter)
        self._end_s = time.monotonic() + limit_s
        self._trials = 0
        new = [r for r in job.rollouts if r.is_new]
        old = sorted((r for r in job.rollouts if not r.is_new), key=lambda r: r.age)[:_MOST_OLD]
        self._rollouts = [*new, *old]

    def run(self) -> Diagnosis:
        """Return what was found."""
        if self._parent_is_unusable():
            return Diagnosis(blames_parent=True)
        if isinstance(self._error, OSError):
            return Diagnosis()
        far: list[FarValue] = []
        try:
            loaded, unreadable = self._load()
            far = far_values(loaded) if loaded else []
            suspects = self._test_suspicions(unreadable, far) or self._halve()
            if suspects:
                return Diagnosis(tuple(suspects))
            blames_parent = self._job.parent is not None and self._works(self._rollouts, with_parent=False)
            return Diagnosis(blames_parent=blames_parent) if blames_parent else Diagnosis(self._alone(far))
        except _TimeIsUp:
            return Diagnosis()

    def _parent_is_unusable(self) -> bool:
        if self._job.parent is None:
            return False
        try:
            open_parent(self._job, Notices(MemoryReporter()), PrefetchCache())
        except (ConfigError, ContractError):
            return False
        except Exception as error:  # noqa: BLE001  a damaged checkpoint can raise anything
            return not is_temporary(error)
        return False

    def _load(self) -> tuple[list[LoadedRollout], list[Suspect]]:
        """Return the rollouts that can be read, and those that raise an unexpected exception."""
        loaded, unreadable = [], []
        rules, notices, cache = rules_of(self._job), Notices(MemoryReporter()), PrefetchCache()
        for entry in self._rollouts:
            try:
                loaded += load_rollouts([entry], rules, notices, cache)
            except (HotlapError, OSError):
                continue  # training leaves it out
            except Exception as error:  # noqa: BLE001
                unreadable.append(_suspect(entry, f"reading it raised {type(error).__name__}: {error}"))
        return loaded, unreadable

    def _test_suspicions(self, unreadable: list[Suspect], far: Sequence[FarValue]) -> list[Suspect]:
        tested: set[frozenset[str]] = set()
        for limit in _FAR:
            named = [Suspect(sha256=f.sha256, name=f.name, reason=f.in_words()) for f in far if f.ratio >= limit]
            suspects = {suspect.sha256: suspect for suspect in (*named, *unreadable)}
            hashes = frozenset(suspects)
            if hashes and hashes not in tested and self._works(self._without(hashes)):
                return list(suspects.values())
            tested.add(hashes)
        return []

    def _halve(self) -> list[Suspect]:
        """Return a few rollouts without which the training works, whatever is wrong with them."""
        remaining, found = list(self._rollouts), list[RolloutInput]()
        while len(found) < _MOST_CULPRITS and len(remaining) > 1:
            culprit = self._one_culprit(remaining)
            if culprit is None:
                return []
            found.append(culprit)
            remaining.remove(culprit)
            if self._works(remaining):
                return [_suspect(entry, "training fails with it and works without it") for entry in found]
        return []

    def _one_culprit(self, rollouts: list[RolloutInput]) -> RolloutInput | None:
        """Return one rollout with which training fails without the others; None if both halves of some work."""
        while len(rollouts) > 1:
            middle = len(rollouts) // 2
            halves = rollouts[:middle], rollouts[middle:]
            failing = next((half for half in halves if not self._works(half)), None)
            if failing is None:
                return None
            rollouts = failing
        return rollouts[0]

    def _alone(self, far: Sequence[FarValue]) -> tuple[Suspect, ...]:
        """Return the only rollout as a suspect, if its own values are far apart. It cannot be tested."""
        if len(self._rollouts) != 1:
            return ()
        certain = [f for f in far if f.ratio >= _FAR[0] and abs(f.value) >= _FAR[0]]
        return tuple(Suspect(sha256=f.sha256, name=f.name, reason=f.in_words()) for f in certain)

    def _without(self, hashes: frozenset[str]) -> list[RolloutInput]:
        return [entry for entry in self._rollouts if entry.sha256 not in hashes]

    def _works(self, rollouts: Sequence[RolloutInput], *, with_parent: bool = True) -> bool:
        """Return whether training on these rollouts works. Raises _TimeIsUp."""
        if not rollouts:
            return False
        if self._trials >= MOST_TRIALS or time.monotonic() > self._end_s:
            raise _TimeIsUp
        self._trials += 1
        self._reporter.begin(self._trials)
        output = Path(self._job.output) / "trial"
        changes = {"rollouts": tuple(rollouts), "output": str(output)}
        parent = {} if with_parent else {"parent": None, "parent_sha256": None, "fresh_statistics": False}
        output.mkdir()
        try:
            self._train(self._job.model_copy(update=changes | parent), self._reporter, PrefetchCache())
        except Exception as error:
            if is_temporary(error):
                raise
            traceback.clear_frames(error.__traceback__)
            return False
        finally:
            shutil.rmtree(output)
        return True


def _suspect(entry: RolloutInput, reason: str) -> Suspect:
    return Suspect(sha256=entry.sha256, name=entry.name, reason=reason)
