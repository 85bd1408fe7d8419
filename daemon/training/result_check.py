"""The one check of a trainer's result before the daemon uses it: a result is what another program says."""

from __future__ import annotations

import re

from daemon.publishing.pointer import PublishError
from schemas.job import Job, Result
from schemas.storage.set_aside import ANALYSIS_NAME
from schemas.text import printable

MAX_EPOCH = 10**9
MAX_EXPERIENCES = 2**53
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(rf"model_epoch_(?:0|[1-9]\d{{0,9}})\.(?:pt|json)|{re.escape(ANALYSIS_NAME)}")
_TEXT, _NOTES, _LOSSES, _NAME = 500, 50, 50, 100
"""How much of a result's texts and losses is kept."""


def checked_result(result: Result, job: Job) -> Result:
    """Return the result of a job with its texts shortened. Raises PublishError if it cannot be one of this job."""
    epoch = result.epoch
    last = job.settings.epochs if job.kind == "train" else MAX_EPOCH
    if not 0 <= epoch <= last:
        raise _wrong(f"epoch {epoch}", f"an epoch from 0 to {last}")
    for kind, name, own in (
        ("the model", result.model, f"model_epoch_{epoch}.json"),
        ("the checkpoint", result.checkpoint, f"model_epoch_{epoch}.pt"),
    ):
        if name != own:
            raise _wrong(f"{kind} {name!r}", own)
        if name not in result.files:
            raise _wrong(f"no hash for {own}", "one")
    for name, sha256 in result.files.items():
        if not _FILE_NAME.fullmatch(name):
            raise _wrong(f"the file {name!r}", f"model_epoch_<k>.pt, model_epoch_<k>.json and {ANALYSIS_NAME}")
        if not _SHA256.fullmatch(sha256):
            raise _wrong(f"{sha256[:70]!r} as the hash of {name}", "64 hexadecimal digits")
    if not 0 <= result.experiences <= MAX_EXPERIENCES:
        raise _wrong(f"{result.experiences} experiences", "a possible number")
    if any(not 0 <= ranked.epoch <= MAX_EPOCH for ranked in result.ranking):
        raise _wrong("an impossible epoch in its ranking", "epochs of its checkpoints")
    _require_same_policy(result, job)
    return _shortened(result)


def _wrong(found: str, wanted: str) -> PublishError:
    return PublishError(
        f"the trainer's result names {printable(found, limit=200)} instead of {wanted}", hint="see the cycle's log"
    )


def _require_same_policy(result: Result, job: Job) -> None:
    """Raise PublishError if the result describes a network of another shape. An adopted one has its own."""
    if job.kind == "adopt":
        return
    differences = list(job.contract.differences(result.contract))
    if result.hidden_sizes != job.hidden_sizes:
        differences.append(f"hidden layers {list(result.hidden_sizes)[:9]} instead of {list(job.hidden_sizes)}")
    if differences:
        raise PublishError(f"the trainer's result has {' and '.join(differences)}", hint="see the cycle's log")


def _shortened(result: Result) -> Result:
    losses = {name: loss for name, loss in result.losses.items() if len(name) <= _NAME}
    ranking = (ranked.model_copy(update={"reason": printable(ranked.reason, limit=_TEXT)}) for ranked in result.ranking)
    return result.model_copy(
        update={
            "device": printable(result.device, limit=_NAME),
            "algorithm": printable(result.algorithm, limit=_TEXT),
            "notes": tuple(printable(note, limit=_TEXT) for note in result.notes[:_NOTES]),
            "losses": dict(list(losses.items())[:_LOSSES]),
            "ranking": tuple(ranking),
        }
    )
