"""The published models that may have generated a job's rollouts, each read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from schemas.errors import HotlapError
from schemas.job import Job, RolloutInput
from schemas.model import MAX_MODEL_BYTES, read_model, weights_checksum
from schemas.storage.files import read_with_retries
from trainer.checkpoints.parent import Parent
from trainer.common.prefetch_cache import PrefetchCache
from trainer.rollouts.behaviour_policy import CandidatePolicy


class CandidateModels:
    """Reads model JSONs as candidates for the behaviour policy."""

    def __init__(self, parent: Parent, job: Job, cache: PrefetchCache) -> None:
        self._parent, self._job, self._cache = parent, job, cache
        self._candidates: dict[str, CandidatePolicy | None] = {}

    def of(self, entry: RolloutInput) -> Iterator[CandidatePolicy]:
        """Yield the models that may have generated a rollout. Each is read when it is needed.

        Models that cannot be read or do not fit the job's contract are left out.
        """
        for index, path in enumerate(entry.behaviours):
            if path not in self._candidates:
                self._candidates[path] = self._candidate(Path(path))
            candidate = self._candidates[path]
            if candidate is not None:
                yield replace(candidate, is_outdated=index in entry.outdated)

    def could_be_read(self, entry: RolloutInput) -> bool:
        """Return whether every model that was needed for a rollout could be read."""
        return all(self._candidates.get(path, True) is not None for path in entry.behaviours)

    def store_in_cache(self) -> None:
        """Store the models that were read in the cache. Raises OSError if a file no longer exists."""
        for path, candidate in self._candidates.items():
            if candidate is not None:
                self._cache.put(_key(Path(path)), candidate.model)

    def _candidate(self, path: Path) -> CandidatePolicy | None:
        try:
            model = self._cache.get(_key(path)) or read_model(read_with_retries(path, limit=MAX_MODEL_BYTES))
        except (HotlapError, OSError):
            return None  # its steps are then attributed to another policy
        if not self._job.contract.has_outputs_of(model.contract):
            return None
        return CandidatePolicy(model, is_parent=weights_checksum(model) == self._parent.checksum)


def _key(path: Path) -> tuple[object, ...]:
    info = path.stat()
    return "model", path, info.st_size, info.st_mtime_ns, info.st_ino
