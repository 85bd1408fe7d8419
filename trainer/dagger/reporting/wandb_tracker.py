"""Weights & Biases, where it is asked for: one run, curves by milestone; offline where there is no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigError
from schemas.program.commands import install_command
from trainer.common.console import say_error
from trainer.dagger.messages import Event, MilestoneResult, RoundDone
from trainer.dagger.schedule import Schedule

if TYPE_CHECKING:
    from trainer.dagger.pipeline import PipelineOptions


class Tracker:
    """A watcher that passes numbers on. A failure in it is told once and costs the tracking only."""

    def __init__(self, project: str, entity: str | None, folder: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigError(
                "--track needs wandb", hint=f"{install_command('track')}, or leave --track out", code="E_EXTRA"
            ) from None
        self._wandb, self._project, self._entity, self._folder = wandb, project, entity, folder
        self._run: Any = None

    def begin(self, plan: Schedule, options: PipelineOptions) -> None:
        """Open the run; offline where the service cannot be reached."""
        given = {"project": self._project, "entity": self._entity, "dir": str(self._folder)}
        config = {**options.settings.model_dump(mode="json"), "milestones": list(plan.run), "env": options.config.env}
        self._folder.mkdir(parents=True, exist_ok=True)
        for mode in (None, "offline"):
            try:
                self._run = self._wandb.init(**given, config=config, **({"mode": mode} if mode else {}))
                return
            except Exception as error:  # noqa: BLE001
                say_error(f"note: wandb: {error}" + ("" if mode else "; going on offline"))

    def started(self, milestone_id: str) -> None:
        """Nothing to note."""

    def heard(self, milestone_id: str, event: Event) -> None:
        """Pass an iteration's numbers on."""
        if isinstance(event, RoundDone):
            names = ("iteration", "beta", "success_rate", "mean_steps", "loss", "labels", "seconds")
            values = {f"{milestone_id}/{name}": getattr(event, name) for name in names}
            self._log({name: value for name, value in values.items() if value is not None})

    def ended(self, result: MilestoneResult) -> None:
        """Pass the last numbers on."""
        if result.dagger_final_success_rate is not None:
            self._log({f"{result.milestone_id}/final_success_rate": result.dagger_final_success_rate})

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()

    def _log(self, values: dict[str, Any]) -> None:
        if self._run is None:
            return
        try:
            self._run.log(values)
        except Exception as error:  # noqa: BLE001
            say_error(f"note: wandb: {error}; tracking ends here")
            self._run = None
