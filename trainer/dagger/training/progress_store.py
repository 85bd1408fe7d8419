"""How far a milestone's work has come, in one file that is replaced whole after every round."""

from __future__ import annotations

import hashlib
import io
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import torch

from schemas.model import MAX_MODEL_BYTES
from schemas.storage.files import read_regular, write_atomic
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.milestones import Milestone
from trainer.dagger.training.dataset import labels_on_disk
from trainer.dagger.training.episodes import EpisodeStatistics

FORMAT = "hotlap.dagger_progress/2"
"""Counts up where work that was begun earlier would go on otherwise than it began."""


@dataclass(frozen=True, slots=True)
class ExpertRecord:
    """How the expert did, and what follows from it."""

    score: EpisodeStatistics
    episodes: tuple[tuple[bool, int], ...]  #: success and steps of each
    max_episode_steps: int | None  #: None = it is not good enough


@dataclass(frozen=True, slots=True)
class CompletedRound:
    """One round, as the report shows it."""

    beta: float
    labels: int  #: the expert's, so far
    loss: float
    score: EpisodeStatistics
    collected_success_rate: float
    seconds: float  #: of all of it
    evaluation_seconds: float  #: of these, what the policy's evaluation took


@dataclass(frozen=True, slots=True)
class MilestoneProgress:
    """Everything that going on needs."""

    fingerprint: str
    expert: ExpertRecord | None = None
    rounds: tuple[CompletedRound, ...] = ()
    learner: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)  #: the learner's state in the best round
    best_round: int | None = None
    final: EpisodeStatistics | None = None  #: of the best, over the final episodes

    @property
    def best_score(self) -> EpisodeStatistics | None:
        """The best round's evaluation."""
        return None if self.best_round is None else self.rounds[self.best_round].score

    def with_round(self, done: CompletedRound, learner: dict[str, Any]) -> MilestoneProgress:
        """Take in a round; it is the best where no earlier one did as well."""
        better = done.score.better_than(self.best_score)
        return replace(
            self,
            rounds=(*self.rounds, done),
            learner=learner,
            best=learner if better else self.best,
            best_round=len(self.rounds) if better else self.best_round,
        )

    def history(self) -> dict[str, list[float]]:
        """Return the training history of a checkpoint."""
        return {
            "policy_loss": [r.loss for r in self.rounds],
            "success_rate": [r.score.success_rate for r in self.rounds],
            "beta": [r.beta for r in self.rounds],
            "labels": [float(r.labels) for r in self.rounds],
        }


def fingerprint_of(job: MilestoneJob, milestone: Milestone, expert: bytes, start: bytes | None) -> str:
    """Hash what decides a milestone's result: where it differs, work that was begun cannot go on."""
    document = {
        "format": FORMAT,
        "milestone": milestone.model_dump(mode="json"),
        "env": job.config.env,
        "env_options": job.config.env_options,
        "settings": job.settings.model_dump(mode="json"),
        "expert": hashlib.sha256(expert).hexdigest(),
        "start": None if start is None else hashlib.sha256(start).hexdigest(),
    }
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def work_folder(job: MilestoneJob) -> Path:
    """Return where a milestone's data and progress lie."""
    return Path(job.output_dir) / "work" / job.milestone_id


def data_folder(work: Path) -> Path:
    """Return where the rounds' data lies in a milestone's work folder."""
    return work / "data"


def load_progress(folder: Path, fingerprint: str) -> tuple[MilestoneProgress, str]:
    """Return the work as it stands, and what to tell people about it; new work where there is none that fits."""
    path = folder / "progress.pt"
    fresh = MilestoneProgress(fingerprint)
    if not path.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        return fresh, ""
    try:
        document = torch.load(
            io.BytesIO(read_regular(path, limit=MAX_MODEL_BYTES)), map_location="cpu", weights_only=True
        )
        work = _work_of(document)
    except Exception as error:  # noqa: BLE001
        shutil.rmtree(folder, ignore_errors=True)
        return fresh, f"{path} cannot be read ({type(error).__name__}): the milestone begins anew"
    if work.rounds and labels_on_disk(data_folder(folder), len(work.rounds)) != work.rounds[-1].labels:
        shutil.rmtree(folder, ignore_errors=True)
        return fresh, f"the data in {data_folder(folder)} is not whole: the milestone begins anew"
    if work.fingerprint != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        return fresh, "settings, expert, start state or Hotlap itself are others than before: the milestone begins anew"
    return work, f"going on after round {len(work.rounds)}" if work.rounds else ""


def save_progress(folder: Path, progress: MilestoneProgress) -> None:
    """Write the work, whole or not at all."""
    document = {
        "format": FORMAT,
        "fingerprint": progress.fingerprint,
        "expert": progress.expert
        and {
            "score": _plain(progress.expert.score),
            "episodes": [list(e) for e in progress.expert.episodes],
            "max_episode_steps": progress.expert.max_episode_steps,
        },
        "rounds": [
            [r.beta, r.labels, r.loss, _plain(r.score), r.collected_success_rate, r.seconds, r.evaluation_seconds]
            for r in progress.rounds
        ],
        "learner": progress.learner,
        "best": progress.best,
        "best_round": progress.best_round,
        "final": progress.final and _plain(progress.final),
    }
    buffer = io.BytesIO()
    torch.save(document, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "progress.pt", buffer.getvalue())


def _work_of(document: dict[str, Any]) -> MilestoneProgress:
    expert, final = document["expert"], document["final"]
    return MilestoneProgress(
        fingerprint=document["fingerprint"],
        expert=expert
        and ExpertRecord(
            EpisodeStatistics(*expert["score"]),
            tuple((s, n) for s, n in expert["episodes"]),
            expert["max_episode_steps"],
        ),
        rounds=tuple(
            CompletedRound(beta, labels, loss, EpisodeStatistics(*score), *rest)
            for beta, labels, loss, score, *rest in document["rounds"]
        ),
        learner=document["learner"],
        best=document["best"],
        best_round=document["best_round"],
        final=final and EpisodeStatistics(*final),
    )


def _plain(score: EpisodeStatistics) -> list[float | None]:
    return [score.success_rate, score.mean_steps, score.std_steps]
