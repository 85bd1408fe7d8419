"""What a milestone leaves behind besides its row: models, and milestone_details with everything that is known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.storage.files import write_atomic
from trainer.checkpoints.export import export
from trainer.dagger.messages import MilestoneJob, MilestoneResult, pretty
from trainer.dagger.milestones import Milestone
from trainer.dagger.training.learner import DaggerLearner
from trainer.dagger.training.progress_store import MilestoneProgress


def write_models(
    job: MilestoneJob, milestone_id: str, learner: DaggerLearner, progress: MilestoneProgress, probe: NDArray[Any]
) -> None:
    """Write the last round's and the best round's checkpoint, and the best as model JSON where an engine can run it.

    The learner holds the best round's weights afterwards.
    """
    folder = Path(job.output_dir) / "models" / milestone_id
    folder.mkdir(parents=True, exist_ok=True)
    history, last = progress.history(), len(progress.rounds) - 1
    assert progress.best_round is not None
    for name, state, number in (("final", progress.learner, last), ("best", progress.best, progress.best_round)):
        learner.load(state)
        data = learner.checkpoint(round_number=number, history=history, probe=probe)
        write_atomic(folder / f"dagger_{milestone_id}_{name}.pth", data)
    if probe.dtype != np.uint8:
        checkpoint = learner.vector_checkpoint(round_number=progress.best_round, history=history, probe=probe)
        write_atomic(folder / f"dagger_{milestone_id}_best.json", export(checkpoint, policy_version=0))


def write_details(
    job: MilestoneJob, milestone: Milestone, progress: MilestoneProgress, result: MilestoneResult
) -> None:
    """Write milestone_details/<ID>.json."""
    folder = Path(job.output_dir) / "milestone_details"
    folder.mkdir(parents=True, exist_ok=True)
    expert = progress.expert
    document = {
        "result": result.model_dump(mode="json"),
        "milestone": milestone.model_dump(mode="json"),
        "env": job.config.env,
        "env_options": job.config.env_options,
        "settings": job.settings.model_dump(mode="json"),
        "expert": expert
        and {**asdict(expert.score), "episodes": [{"success": s, "steps": n} for s, n in expert.episodes]},
        "max_episode_steps": expert and expert.max_episode_steps,
        "rounds": [{"iteration": k, **_flat(asdict(r))} for k, r in enumerate(progress.rounds)],
        "best_iteration": progress.best_round,
        "final": progress.final and asdict(progress.final),
        "models": _names(job, "models", milestone.id),
        "videos": _names(job, "expert_eval_videos", milestone.id) + _names(job, "dagger_videos", milestone.id),
    }
    write_atomic(folder / f"{milestone.id}.json", pretty(document))


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    score = document.pop("score")
    return {**document, **score}


def _names(job: MilestoneJob, kind: str, milestone_id: str) -> list[str]:
    """List the files of a kind, relative to the output folder."""
    folder = Path(job.output_dir) / kind / milestone_id
    return [f"{kind}/{milestone_id}/{path.name}" for path in sorted(folder.glob("[!.]*"))] if folder.is_dir() else []
