"""The progress of a milestone: one file, written atomically after every round. Labels are never removed here."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from schemas.errors import ConfigError
from schemas.storage.files import REAL_DISK, read_regular, write_atomic
from schemas.storage.held_open import retry_while_held_open
from schemas.storage.windows_paths import shown_path
from trainer.dagger.inputs import FORMAT, Inputs, changed_files, changed_flags
from trainer.dagger.kept_work import ProgressError, keep_work
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.training.dataset import count_labels, round_folder
from trainer.dagger.training.episodes import EpisodeStatistics

_MAX_PROGRESS_BYTES = 4 << 30
_DAMAGED = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError
)  # fmt: skip
"""Exceptions of `torch.load` for a truncated or overwritten file, and those that unexpected content causes."""


@dataclass(frozen=True, slots=True)
class ExpertEvaluation:
    """The evaluation of an expert, and the step limit that follows from it."""

    statistics: EpisodeStatistics
    episodes: tuple[tuple[bool, int], ...]  #: success and steps of each
    max_episode_steps: int | None  #: None: the expert succeeds too rarely
    note: str = ""  #: what users should know about the expert


@dataclass(frozen=True, slots=True)
class CompletedRound:
    """The numbers of one round."""

    beta: float
    labels: int  #: in all rounds up to this one
    loss: float
    evaluation: EpisodeStatistics
    collected_success_rate: float | None  #: None: the labels are those of demonstrations
    seconds: float
    evaluation_seconds: float  #: the part of `seconds` that the evaluation took


@dataclass(frozen=True, slots=True)
class MilestoneProgress:
    """The saved progress of a milestone."""

    inputs: Inputs
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


def work_folder(job: MilestoneJob) -> Path:
    """Return the folder of a milestone's progress and labels."""
    return Path(job.output_dir) / "work" / job.milestone_id


def labels_folder(folder: Path) -> Path:
    """Return the folder of the labels in a milestone's work folder."""
    return folder / "data"


def load_progress(folder: Path, inputs: Inputs) -> tuple[MilestoneProgress, str]:
    """Return the saved progress and a note for the user, which may be "".

    A work folder that cannot be continued is renamed and kept, and the progress is new. Raises ProgressError if the
    folder cannot be read at the moment, and ConfigError if flags differ from those of the earlier rounds; then nothing
    is changed.
    """
    path, labels = folder / "progress.pt", labels_folder(folder)
    try:
        if not _has_progress(path):
            if not _has_labels(labels):
                return MilestoneProgress(inputs), ""
            return _start_from_scratch(folder, inputs, f"{shown_path(path)} does not exist", "unreadable")
        data = retry_while_held_open(lambda: read_regular(path, limit=_MAX_PROGRESS_BYTES), pause=REAL_DISK.pause)
        try:
            progress = _from_document(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
        except _DAMAGED as error:
            reason = f"{shown_path(path)} is damaged ({type(error).__name__})"
            return _start_from_scratch(folder, inputs, reason, "unreadable")
        rounds = len(progress.rounds)
        if rounds and count_labels(labels, rounds) != progress.rounds[-1].labels:
            return _start_from_scratch(folder, inputs, f"labels are missing in {shown_path(labels)}", "unreadable")
        if os.path.lexists(round_folder(labels, rounds + 1)):  # that of an interrupted round is `rounds`
            reason = f"{shown_path(path)} is older than the labels: it has {rounds} rounds"
            return _start_from_scratch(folder, inputs, reason, "unreadable")
    except OSError as error:
        raise ProgressError(
            f"{error.filename or path} cannot be read: {error.strerror or error}",
            hint="correct its permissions or the disk, then run the command again; nothing was removed",
        ) from None
    return _continue(folder, progress, inputs)


def _continue(folder: Path, progress: MilestoneProgress, inputs: Inputs) -> tuple[MilestoneProgress, str]:
    """Return progress that was read, or new progress if something that decides the result changed."""
    rounds, old = len(progress.rounds), progress.inputs
    if old.document:
        flags, files = changed_flags(old.document, inputs.document), changed_files(old.document, inputs.document)
    else:  # of a version of Hotlap that stored only the fingerprint
        is_same = old.fingerprint == inputs.fingerprint
        flags, files = [], [] if is_same else ["its settings, config, expert, start state or Hotlap's version"]
    if not flags and not files:
        return progress, f"continues after round {rounds}" if rounds else ""
    if flags and rounds:
        raise ConfigError(
            f"its {rounds} round{'' if rounds == 1 else 's'} so far had other flags: now {', '.join(flags)}",
            hint="use the earlier flags to continue, or --fresh to train from scratch (its labels are kept)",
        )
    if not _has_labels(labels_folder(folder)):
        return MilestoneProgress(inputs), ""
    return _start_from_scratch(folder, inputs, f"{' and '.join([*files, *flags])} changed", "old")


def _has_labels(folder: Path) -> bool:
    return any(folder.glob("round_*/labels_*.npy"))


def _has_progress(path: Path) -> bool:
    """Return whether the file exists. Raises OSError if this cannot be checked."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _start_from_scratch(folder: Path, inputs: Inputs, reason: str, kind: str) -> tuple[MilestoneProgress, str]:
    kept = keep_work(folder, kind)
    note = f"starts from scratch, because {reason}; the earlier work is kept in {shown_path(kept)}"
    return MilestoneProgress(inputs), note


def save_progress(folder: Path, progress: MilestoneProgress) -> None:
    """Write the progress atomically."""
    document = {
        "format": FORMAT,
        "fingerprint": progress.inputs.fingerprint,
        "inputs": dict(progress.inputs.document),
        "expert": progress.expert
        and {
            "score": _as_list(progress.expert.statistics),
            "episodes": [list(e) for e in progress.expert.episodes],
            "max_episode_steps": progress.expert.max_episode_steps,
            "note": progress.expert.note,
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
        inputs=Inputs(document.get("inputs") or {}, document["fingerprint"]),
        expert=expert
        and ExpertEvaluation(
            EpisodeStatistics(*expert["score"]),
            tuple((success, steps) for success, steps in expert["episodes"]),
            expert["max_episode_steps"],
            expert.get("note", ""),
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
