"""Metric loggers of an online run besides the console: TensorBoard and Weights & Biases."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Protocol

from schemas.program.commands import install_command
from trainer.common.reporting.wandb_run import WandbRun
from trainer.online.config import OnlineSettings
from trainer.online.run_folder import note_in_run_info, run_info


class MetricLogger(Protocol):
    """Logs scalars."""

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Log numbers, by name, after `steps` agent steps."""

    def close(self) -> None:
        """Write the remaining numbers, and close."""


class TensorBoard:
    """Scalars in TensorBoard event files."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        """Open an event file. Raises ImportError if tensorboard is not installed.

        TensorBoard leaves out values of earlier files after `resumed_at` steps, so that a curve does not run backwards.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Log numbers, by name, after `steps` agent steps."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, steps)

    def close(self) -> None:
        """Write the remaining numbers, and close."""
        self._writer.close()


class WandB:
    """Scalars in a run of Weights & Biases."""

    def __init__(self, folder: Path, settings: OnlineSettings) -> None:
        """Open a run, or continue that of a resumed one. Raises ConfigError if wandb is not installed."""
        run_id = run_info(folder).get("wandb_id") or uuid.uuid4().hex[:8]
        self._run = WandbRun(
            project=settings.report.project,
            entity=None,
            folder=folder,
            needed_by="report.wandb = true",
            run_id=str(run_id),
        )
        note_in_run_info(folder, wandb_id=run_id)
        self._run.start(settings.model_dump(mode="json"))

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Log numbers, by name, after `steps` agent steps."""
        self._run.log(numbers, step=steps)

    def close(self) -> None:
        """Finish the run."""
        self._run.close()


def make_loggers(folder: Path, settings: OnlineSettings, resumed_at: int) -> tuple[list[MetricLogger], str]:
    """Return the loggers that the settings enable, and a note if TensorBoard is enabled but not installed.

    Raises ConfigError if wandb is enabled but not installed.
    """
    loggers: list[MetricLogger] = []
    note = ""
    if settings.report.wandb:
        loggers.append(WandB(folder, settings))
    if settings.report.tensorboard:
        try:
            loggers.append(TensorBoard(folder / "tensorboard", resumed_at))
        except ImportError:
            remedy = install_command("tensorboard")
            note = f"no TensorBoard scalars are written, because tensorboard is not installed -> {remedy}"
    return loggers, note
