"""A run of Weights & Biases. If it fails, this is reported once and the training continues without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.program.commands import install_command
from trainer.common.reporting.console import print_error


class WandbRun:
    """One run, opened by `start`. WANDB_MODE=offline keeps all data on this machine."""

    def __init__(
        self, *, project: str, entity: str | None, folder: Path, needed_by: str, run_id: str | None = None
    ) -> None:
        """Import wandb. Raises ConfigError if it is not installed; `needed_by` is the flag or setting that needs it.

        A run with a `run_id` that exists continues.
        """
        try:
            import wandb
        except ImportError:
            raise ConfigError(
                f"{needed_by} needs wandb, which is not installed",
                hint=f"{install_command('track')}, or leave out {needed_by}",
                code="E_EXTRA",
            ) from None
        self._wandb, self._project, self._entity, self._folder = wandb, project, entity, folder
        self._same = {"id": run_id, "resume": "allow"} if run_id else {}
        self._run: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the run; offline if the service cannot be reached."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {"project": self._project, "entity": self._entity, "dir": str(self._folder), "config": dict(config)}
        options |= self._same
        try:
            self._run = self._wandb.init(**options)
        except Exception as error:  # noqa: BLE001
            print_error(f"note: wandb: {error}; logging offline instead")
            try:
                self._run = self._wandb.init(**options, mode="offline")
            except Exception as offline_error:  # noqa: BLE001
                print_error(f"note: wandb: {offline_error}; nothing is logged to it")

    def log(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log numbers. The first failure ends the logging."""
        if self._run is None:
            return
        try:
            self._run.log(dict(values), step=step)
        except Exception as error:  # noqa: BLE001
            print_error(f"note: wandb: {error}; nothing more is logged to it")
            self._run = None

    def close(self) -> None:
        """Finish the run."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish()
        except Exception as error:  # noqa: BLE001
            print_error(f"note: wandb: {error}; the end of its run may be missing")
