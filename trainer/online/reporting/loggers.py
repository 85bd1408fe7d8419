"""Metric loggers of an online run besides the console: TensorBoard and Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from schemas.program.commands import install_command
from trainer.common.reporting.wandb_run import WandbRun
from trainer.online.config import OnlineSettings


class MetricLogger(Protocol):
    """Logs scalars."""

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Log numbers, by name, after `steps` agent steps."""

    def close(self) -> None:
        """Write the remaining numbers, and close."""


class TensorBoard:
    """Scalars in TensorBoard event files."""

    def __init__(self, folder: Path) -> None:
        """Open the event file. Raises ImportError if tensorboard is not installed."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

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
        """Open the run. Raises ConfigError if wandb is not installed."""
        self._run = WandbRun(
            project=settings.report.project, entity=None, folder=folder, needed_by="report.wandb = true"
        )
        self._run.start(settings.model_dump(mode="json"))

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Log numbers, by name, after `steps` agent steps."""
        self._run.log(numbers, step=steps)

    def close(self) -> None:
        """Finish the run."""
        self._run.close()


def make_loggers(folder: Path, settings: OnlineSettings) -> tuple[list[MetricLogger], str]:
    """Return the loggers that the settings enable, and a note if TensorBoard is enabled but not installed.

    Raises ConfigError if wandb is enabled but not installed.
    """
    loggers: list[MetricLogger] = []
    note = ""
    if settings.report.wandb:
        loggers.append(WandB(folder, settings))
    if settings.report.tensorboard:
        try:
            loggers.append(TensorBoard(folder / "tensorboard"))
        except ImportError:
            remedy = install_command("tensorboard")
            note = f"no TensorBoard scalars are written, because tensorboard is not installed -> {remedy}"
    return loggers, note
