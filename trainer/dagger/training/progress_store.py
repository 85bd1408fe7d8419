"""The progress of a milestone: one file, written atomically after every round. Labels are never removed here."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import torch

from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES
from schemas.storage.files import REAL_DISK, read_regular, read_with_retries, write_atomic
from schemas.storage.held_open import is_held_open, retry_while_held_open
from schemas.storage.windows_paths import shown_path
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.milestones import Milestone
from trainer.dagger.training.dataset import count_labels
from trainer.dagger.training.episodes import EpisodeStatistics

FORMAT = "hotlap.dagger_progress/2"
"""Increased if progress of an older version cannot be continued with the same result."""
_MAX_PROGRESS_BYTES = 4 << 30
_DAMAGED = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError
)  # fmt: skip
"""Exceptions of `torch.load` for a truncated or overwritten file, and those that unexpected content causes."""


class ProgressError(HotlapError):
    """Progress that cannot be read or moved now. Nothing was changed."""

    code = "E_OS"


@dataclass(frozen=True, slots=True)
class ExpertEvaluation:
    """The evaluation of an expert, and the step limit that follows from it."""

    statistics: EpisodeStatistics
    episodes: tuple[tuple[bool, int], ...]  #: success and steps of each
    max_episode_steps: int | None  #: None: the expert succeeds too rarely


@dataclass(frozen=True, slots=True)
class CompletedRound:
    """The numbers of one round."""

    beta: float
    labels: int  #: in all rounds up to this one
    loss: float
    evaluation: EpisodeStatistics
    collected_success_rate: float
    seconds: float
    evaluation_seconds: float  #: the part of `seconds` that the evaluation took


@dataclass(frozen=True, slots=True)
class MilestoneProgress:
    """The saved progress of a milestone."""

    fingerprint: str
    expert: ExpertEvaluation | None = None
    rounds: tuple[CompletedRound, ...] = ()
    learner: dict[str, Any] = field(default_factory=dict)  #: the learner's state after the last round
    best: dict[str, Any] = field(default_factory=dict)  #: the learner's state after the best round
    best_round: int | None = None
    final: EpisodeStatistics | None = None  #: the last evaluation of the best policy

    @property
    def best_evaluation(self) -> EpisodeStatistics | None:
        """Return the evaluation of the best round; None before the first round."""
        return None if self.best_round is None else self.rounds[self.best_round].evaluation

    def with_round(self, done: CompletedRound, learner: dict[str, Any]) -> MilestoneProgress:
        """Return the progress after another round. Of equally good rounds, the first is the best."""
        is_best = done.evaluation.is_better_than(self.best_evaluation)
        return replace(
            self,
            rounds=(*self.rounds, done),
            learner=learner,
            best=learner if is_best else self.best,
            best_round=len(self.rounds) if is_best else self.best_round,
        )

    def history(self) -> dict[str, list[float]]:
        """Return the training history for a checkpoint."""
        return {
            "policy_loss": [r.loss for r in self.rounds],
            "success_rate": [r.evaluation.success_rate for r in self.rounds],
            "beta": [r.beta for r in self.rounds],
            "labels": [float(r.labels) for r in self.rounds],
        }


def fingerprint_of(job: MilestoneJob, milestone: Milestone, expert: bytes, start_state: bytes | None) -> str:
    """Return a hash of all that decides a milestone's result. Progress with another fingerprint cannot be continued."""
    document = {
        "format": FORMAT,
        "milestone": milestone.model_dump(mode="json"),
        "env": job.config.env,
        "env_options": job.config.env_options,
        "settings": job.settings.model_dump(mode="json"),
        "expert": hashlib.sha256(expert).hexdigest(),
        "start": None if start_state is None else hashlib.sha256(start_state).hexdigest(),
    }
    if job.start_from:
        document["start_from"] = hashlib.sha256(
            read_with_retries(Path(job.start_from), limit=MAX_MODEL_BYTES)
        ).hexdigest()
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def work_folder(job: MilestoneJob) -> Path:
    """Return the folder of a milestone's progress and labels."""
    return Path(job.output_dir) / "work" / job.milestone_id


def labels_folder(folder: Path) -> Path:
    """Return the folder of the labels in a milestone's work folder."""
    return folder / "data"


def load_progress(folder: Path, fingerprint: str) -> tuple[MilestoneProgress, str]:
    """Return the saved progress and a note for the user, which may be "".

    A work folder that cannot be continued is renamed and kept, and the progress is new. Raises HotlapError if the
    folder cannot be read at the moment; then nothing is changed.
    """
    path, labels = folder / "progress.pt", labels_folder(folder)
    try:
        if not _has_progress(path):
            if not any(labels.glob("round_*/labels_*.npy")):
                return MilestoneProgress(fingerprint), ""
            return _start_from_scratch(folder, fingerprint, f"{shown_path(path)} does not exist", "unreadable")
        data = retry_while_held_open(lambda: read_regular(path, limit=_MAX_PROGRESS_BYTES), pause=REAL_DISK.pause)
        try:
            progress = _from_document(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
        except _DAMAGED as error:
            return _start_from_scratch(
                folder, fingerprint, f"{shown_path(path)} is damaged ({type(error).__name__})", "unreadable"
            )
        if progress.rounds and count_labels(labels, len(progress.rounds)) != progress.rounds[-1].labels:
            return _start_from_scratch(folder, fingerprint, f"labels are missing in {shown_path(labels)}", "unreadable")
    except OSError as error:
        raise ProgressError(
            f"{error.filename or path} cannot be read: {error.strerror or error}",
            hint="correct its permissions or the disk, then run the command again; nothing was removed",
        ) from None
    if progress.fingerprint != fingerprint:
        reason = "its settings, expert or start state changed, or Hotlap did"
        return _start_from_scratch(folder, fingerprint, reason, "old")
    return progress, f"continues after round {len(progress.rounds)}" if progress.rounds else ""


def _has_progress(path: Path) -> bool:
    """Return whether the file exists. Raises OSError if this cannot be checked."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _start_from_scratch(folder: Path, fingerprint: str, reason: str, kind: str) -> tuple[MilestoneProgress, str]:
    new_path = _rename_old(folder, kind)
    return MilestoneProgress(
        fingerprint
    ), f"starts from scratch, because {reason}; the earlier work is kept in {shown_path(new_path)}"


def _rename_old(folder: Path, kind: str) -> Path:
    """Rename a work folder to `<ID>.<kind>-<time>` and return the new path. Raises ProgressError."""
    stem = f"{folder.name}.{kind}-{datetime.now(UTC):%Y%m%d_%H%M%S}"
    names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    target = next(path for path in map(folder.with_name, names) if not os.path.lexists(path))
    try:
        retry_while_held_open(lambda: folder.rename(target), is_temporary=is_held_open, pause=REAL_DISK.pause)
    except OSError as error:
        raise ProgressError(
            f"{shown_path(folder)} cannot be renamed to {target.name}: {error.strerror or error}",
            hint="rename or remove it, then run the command again",
        ) from None
    return target


def save_progress(folder: Path, progress: MilestoneProgress) -> None:
    """Write the progress atomically."""
    document = {
        "format": FORMAT,
        "fingerprint": progress.fingerprint,
        "expert": progress.expert
        and {
            "score": _as_list(progress.expert.statistics),
            "episodes": [list(e) for e in progress.expert.episodes],
            "max_episode_steps": progress.expert.max_episode_steps,
        },
        "rounds": [
            [
                *(r.beta, r.labels, r.loss, _as_list(r.evaluation)),
                *(r.collected_success_rate, r.seconds, r.evaluation_seconds),
            ]
            for r in progress.rounds
        ],
        "learner": progress.learner,
        "best": progress.best,
        "best_round": progress.best_round,
        "final": progress.final and _as_list(progress.final),
    }
    buffer = io.BytesIO()
    torch.save(document, buffer)
    REAL_DISK.make_folder(folder)
    write_atomic(folder / "progress.pt", buffer.getvalue())


def _from_document(document: dict[str, Any]) -> MilestoneProgress:
    expert, final = document["expert"], document["final"]
    return MilestoneProgress(
        fingerprint=document["fingerprint"],
        expert=expert
        and ExpertEvaluation(
            EpisodeStatistics(*expert["score"]),
            tuple((success, steps) for success, steps in expert["episodes"]),
            expert["max_episode_steps"],
        ),
        rounds=tuple(
            CompletedRound(beta, labels, loss, EpisodeStatistics(*evaluation), *numbers)
            for beta, labels, loss, evaluation, *numbers in document["rounds"]
        ),
        learner=document["learner"],
        best=document["best"],
        best_round=document["best_round"],
        final=final and EpisodeStatistics(*final),
    )


def _as_list(statistics: EpisodeStatistics) -> list[float | None]:
    return [statistics.success_rate, statistics.mean_steps, statistics.std_steps]
