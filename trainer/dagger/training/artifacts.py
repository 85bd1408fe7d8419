"""The output files of a milestone besides its result: models, and milestone_details/<ID>.json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from schemas.storage.files import REAL_DISK, write_atomic
from trainer.checkpoints.export import export
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.milestones import Milestone
from trainer.dagger.results import MilestoneResult, pretty_json
from trainer.dagger.training.context import EXPERT_VIDEOS, POLICY_VIDEOS, MilestoneContext
from trainer.dagger.training.learner import DaggerLearner
from trainer.dagger.training.progress_store import MilestoneProgress


def write_models(
    context: MilestoneContext,
    progress: MilestoneProgress,
    probe: NDArray[Any],
    *,
    best: DaggerLearner,
    last: DaggerLearner,
) -> None:
    """Write the checkpoints of the best and the last round, and the model JSON of the best if engines can run it."""
    name, history, best_round = context.milestone.id, progress.history(), progress.best_round
    assert best_round is not None
    folder = Path(context.job.output_dir) / "models" / name
    REAL_DISK.make_folder(folder)
    for kind, learner, number in (("final", last, len(progress.rounds) - 1), ("best", best, best_round)):
        data = learner.checkpoint(round_number=number, history=history, probe=probe)
        write_atomic(folder / f"dagger_{name}_{kind}.pth", data)
    if not context.envs[0].spec.is_image:
        checkpoint = best.vector_checkpoint(round_number=best_round, history=history, probe=probe)
        write_atomic(folder / f"dagger_{name}_best.json", export(checkpoint, policy_version=0))


def write_details(
    job: MilestoneJob, milestone: Milestone, progress: MilestoneProgress, result: MilestoneResult
) -> None:
    """Write milestone_details/<ID>.json."""
    folder = Path(job.output_dir) / "milestone_details"
    REAL_DISK.make_folder(folder)
    expert = progress.expert
    episodes = [{"success": success, "steps": steps} for success, steps in expert.episodes] if expert else []
    document = {
        "result": result.model_dump(mode="json"),
        "milestone": milestone.model_dump(mode="json"),
        "env": job.config.env,
        "env_options": job.config.env_options,
        "settings": job.settings.model_dump(mode="json"),
        "expert": expert and {**asdict(expert.statistics), "note": expert.note, "episodes": episodes},
        "max_episode_steps": expert and expert.max_episode_steps,
        "rounds": [{"iteration": k, **_flat(asdict(r))} for k, r in enumerate(progress.rounds)],
        "best_iteration": progress.best_round,
        "final": progress.final and asdict(progress.final),
        "models": _file_names(job, "models", milestone.id),
        "videos": [name for kind in (EXPERT_VIDEOS, POLICY_VIDEOS) for name in _file_names(job, kind, milestone.id)],
    }
    write_atomic(folder / f"{milestone.id}.json", pretty_json(document))


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    evaluation = document.pop("evaluation")
    return {**document, **evaluation}


def _file_names(job: MilestoneJob, kind: str, milestone_id: str) -> list[str]:
    """Return the paths of a milestone's files of one kind, relative to the output folder."""
    folder = Path(job.output_dir) / kind / milestone_id
    return [f"{kind}/{milestone_id}/{path.name}" for path in sorted(folder.glob("[!.]*"))] if folder.is_dir() else []
