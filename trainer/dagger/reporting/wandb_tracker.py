"""`--track`: the numbers of a DAgger run in Weights & Biases, as one run with curves for each milestone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.common.reporting.wandb_run import WandbRun
from trainer.dagger.messages import Event, RoundDone
from trainer.dagger.results import MilestoneResult
from trainer.dagger.schedule import Schedule

if TYPE_CHECKING:
    from trainer.dagger.pipeline import PipelineOptions

_LOGGED = ("iteration", "beta", "success_rate", "mean_steps", "loss", "labels", "seconds")


class WandbTracker:
    """A pipeline listener that logs each round and each final success rate."""

    def __init__(self, project: str, entity: str | None, folder: Path) -> None:
        self._run = WandbRun(project=project, entity=entity, folder=folder, needed_by="--track")

    def run_started(self, schedule: Schedule, options: PipelineOptions) -> None:
        """Open the run."""
        settings, env = options.settings.model_dump(mode="json"), options.config.env
        self._run.start({**settings, "milestones": list(schedule.to_run), "env": env})

    def milestone_started(self, milestone_id: str) -> None:
        """Do nothing."""

    def event_received(self, milestone_id: str, event: Event) -> None:
        """Log the numbers of a round."""
        if isinstance(event, RoundDone):
            values = {f"{milestone_id}/{name}": getattr(event, name) for name in _LOGGED}
            self._run.log({name: value for name, value in values.items() if value is not None})

    def milestone_ended(self, result: MilestoneResult) -> None:
        """Log the final success rate."""
        if result.dagger_final_success_rate is not None:
            self._run.log({f"{result.milestone_id}/final_success_rate": result.dagger_final_success_rate})

    def close(self) -> None:
        """Finish the run."""
        self._run.close()
