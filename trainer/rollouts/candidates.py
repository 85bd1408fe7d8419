"""The published models that may have generated a rollout: read them, and remember them between rollouts."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import HotlapError
from schemas.job import Job
from schemas.model import MAX_MODEL_BYTES, read_model, weights_checksum
from schemas.storage.files import read_regular
from trainer.checkpoints.parent import Parent
from trainer.common.prefetch_cache import AHEAD
from trainer.rollouts.behaviour_policy import CandidatePolicy


def candidates_of(
    paths: tuple[str, ...], parent: Parent, job: Job, known: dict[str, CandidatePolicy | None]
) -> list[CandidatePolicy]:
    """Read the model JSONs that may have played; what cannot be read or does not fit is passed over.

    `known` keeps what was read for other rollouts of this job.
    """
    for path in paths:
        if path not in known:
            known[path] = _candidate(Path(path), parent, job)
    return [candidate for path in paths if (candidate := known[path]) is not None]


def remember_candidates(known: dict[str, CandidatePolicy | None]) -> None:
    """Keep the models that were read before the job has come. Raises OSError where one is gone by now."""
    for path, candidate in known.items():
        if candidate is not None:
            AHEAD.put(_model_key(Path(path)), candidate.model)


def _model_key(path: Path) -> tuple[object, ...]:
    info = path.stat()
    return "model", path, info.st_size, info.st_mtime_ns, info.st_ino


def _candidate(path: Path, parent: Parent, job: Job) -> CandidatePolicy | None:
    try:
        model = AHEAD.get(_model_key(path)) or read_model(read_regular(path, limit=MAX_MODEL_BYTES))
    except (HotlapError, OSError):
        return None  # its steps will be told as a stranger's
    if job.contract.differences(model.contract):
        return None
    return CandidatePolicy(model, is_parent=weights_checksum(model) == parent.checksum)
