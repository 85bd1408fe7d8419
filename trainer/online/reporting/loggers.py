"""Where numbers go besides the console: TensorBoard and Weights & Biases, each where it is installed and wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.program.commands import install_command
from trainer.online.config import OnlineSettings


class TensorBoard:
    """Scalars in event files under the run's folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Write numbers at an agent step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, steps)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases; WANDB_MODE=offline keeps all of it under the run's folder."""

    def __init__(self, folder: Path, settings: OnlineSettings) -> None:
        try:
            import wandb
        except ImportError:
            raise ConfigError(
                "report.wandb is on but wandb is not installed",
                hint=f"{install_command('track')}, or set report.wandb = false",
                code="E_EXTRA",
            ) from None
        self._run: Any = wandb.init(
            project=settings.report.project, dir=str(folder), config=settings.model_dump(mode="json")
        )

    def scalars(self, steps: int, numbers: dict[str, float]) -> None:
        """Write numbers at an agent step."""
        self._run.log(numbers, step=steps)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def make_loggers(folder: Path, settings: OnlineSettings) -> tuple[list[Any], str]:
    """Return the boards that are wanted, and a line where one is wanted but not installed."""
    boards: list[Any] = []
    note = ""
    if settings.report.tensorboard:
        try:
            boards.append(TensorBoard(folder / "tensorboard"))
        except ImportError:
            note = f"no TensorBoard scalars, since tensorboard is not installed -> {install_command('tensorboard')}"
    if settings.report.wandb:
        boards.append(WandB(folder, settings))
    return boards, note
