"""Minari datasets, which need the package of this name: https://minari.farama.org."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.program.commands import install_command
from schemas.storage.windows_paths import error_text, shown_path

_METADATA = "metadata.json"


def data_folder(folder: Path) -> Path | None:
    """Return the folder of a dataset's files, in which its metadata.json is; None if it is not a dataset."""
    return next((path for path in (folder, folder / "data") if (path / _METADATA).is_file()), None)


def digest(folder: Path) -> str:
    """Return a hash over the names, sizes and metadata of a dataset's files."""
    data = data_folder(folder)
    assert data is not None
    found = hashlib.sha256((data / _METADATA).read_bytes())
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(data).as_posix()}:{path.stat().st_size}\n".encode())
    return found.hexdigest()


def open_dataset(folder: Path) -> Any:
    """Return Minari's dataset. Raises ConfigError: E_EXTRA if the package is missing."""
    try:
        import minari
    except ImportError:
        message = f"{shown_path(folder)} is a Minari dataset, and minari is not installed"
        raise ConfigError(message, hint=install_command("minari"), code="E_EXTRA") from None
    try:
        return minari.MinariDataset(data_folder(folder))
    except ImportError as error:
        hint = "pip install h5py, or the package that the message names"
        raise ConfigError(f"{shown_path(folder)} cannot be read: {error}", hint=hint, code="E_EXTRA") from None
    except Exception as error:
        message = f"{shown_path(folder)} cannot be read: {type(error).__name__}: {error_text(error)}"
        raise ConfigError(message, hint="check it with `minari show`") from error


def episodes(folder: Path) -> Iterator[tuple[list[Any], list[Any]]]:
    """Return the observations of each episode, without the last one, and the actions that were taken in them."""
    for episode in open_dataset(folder).iterate_episodes():
        steps = len(episode.rewards)
        yield (
            [_at(episode.observations, step) for step in range(steps)],
            [_at(episode.actions, step) for step in range(steps)],
        )


def _at(values: Any, step: int) -> Any:
    """Return the value of one step; Minari stores each part of a Dict or Tuple space in an array of its own."""
    if isinstance(values, dict):
        return {name: _at(part, step) for name, part in values.items()}
    if isinstance(values, tuple):
        return tuple(_at(part, step) for part in values)
    return values[step]
