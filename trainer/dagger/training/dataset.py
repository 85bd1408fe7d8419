"""The labels of all rounds: one folder for each round on disk, read through memory maps to limit the memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.storage.files import REAL_DISK
from trainer.dagger.actions import Labels

IN_MEMORY_BYTES = 256 * 1024 * 1024
"""Observations up to this size are kept in memory during training; larger ones stay on disk."""
_MAP_BEYOND_END_WINERROR = 8
"""What Windows reports if a file is shorter than its memory map: "not enough memory"."""


def round_folder(folder: Path, number: int) -> Path:
    """Return the folder of a round."""
    return folder / f"round_{number:04d}"


class RoundWriter:
    """Writes the episodes of one round. The round counts when the milestone's progress is saved."""

    def __init__(self, folder: Path, number: int) -> None:
        """Create the round's folder. The files of an interrupted attempt at this round are removed."""
        self._folder = round_folder(folder, number)
        REAL_DISK.remove_folder(self._folder)
        REAL_DISK.make_folder(self._folder)
        self._episodes = self._labels = 0

    def add(self, observations: NDArray[Any], labels: Labels) -> None:
        """Write one episode."""
        np.save(self._folder / f"observations_{self._episodes:04d}.npy", observations, allow_pickle=False)
        np.save(self._folder / f"labels_{self._episodes:04d}.npy", labels, allow_pickle=False)
        self._episodes += 1
        self._labels += len(labels)

    def finish(self) -> int:
        """Flush the round to the disk, and return its number of labels."""
        REAL_DISK.fsync_all(list(self._folder.iterdir()))
        REAL_DISK.fsync_dir(self._folder)
        return self._labels


def count_labels(folder: Path, rounds: int) -> int:
    """Return how many labels the first rounds have on disk; damaged or incomplete episodes do not count.

    Raises OSError if a file exists but cannot be read.
    """
    count = 0
    for number in range(rounds):
        for path in sorted(round_folder(folder, number).glob("labels_*.npy")):
            try:
                labels, observations = _mapped(path), _mapped(_observations_of(path))
            except (FileNotFoundError, ValueError, EOFError):
                continue
            count += len(labels) if len(labels) == len(observations) else 0
    return count


def _mapped(path: Path) -> NDArray[Any]:
    """Map an array's file. Raises ValueError if it is cut off, and OSError if it cannot be read."""
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        if getattr(error, "winerror", None) == _MAP_BEYOND_END_WINERROR:
            raise ValueError("the file is cut off") from error
        raise
    return mapped


def _observations_of(labels: Path) -> Path:
    return labels.with_name(labels.name.replace("labels", "observations"))


class Dataset:
    """The pairs of observation and label of the first rounds."""

    def __init__(self, folder: Path, rounds: int) -> None:
        paths = [path for k in range(rounds) for path in sorted(round_folder(folder, k).glob("labels_*.npy"))]
        self.labels: Labels = np.concatenate([np.load(path, allow_pickle=False) for path in paths])
        maps = [_mapped(_observations_of(path)) for path in paths]
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in maps])])
        self._is_in_memory = sum(part.nbytes for part in maps) <= IN_MEMORY_BYTES
        self._parts: Sequence[NDArray[Any]] = [np.concatenate(maps)] if self._is_in_memory else maps
        if self._is_in_memory:
            self._starts = self._starts[[0, -1]]

    def __len__(self) -> int:
        return len(self.labels)

    def in_memory(self) -> NDArray[Any] | None:
        """Return all observations, or None if they are too large to be kept in memory."""
        return self._parts[0] if self._is_in_memory else None

    def batch(self, index_B: NDArray[np.int64]) -> tuple[NDArray[Any], Labels]:
        """Return the pairs with these indices, in this order."""
        if len(self._parts) == 1:
            return self._parts[0][index_B], self.labels[index_B]
        part_B = np.searchsorted(self._starts, index_B, side="right") - 1
        observations = np.empty((len(index_B), *self._parts[0].shape[1:]), self._parts[0].dtype)
        for part in np.unique(part_B):
            is_here_B = part_B == part
            observations[is_here_B] = self._parts[part][index_B[is_here_B] - self._starts[part]]
        return observations, self.labels[index_B]
