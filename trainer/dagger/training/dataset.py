"""The aggregated data: one folder a round on disk, read through memory maps, so that memory stays bounded."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.storage.files import REAL_DISK
from trainer.dagger.actions import Labels

IN_MEMORY_BYTES = 256 * 1024 * 1024
"""Observations up to this size are held in memory while training; larger ones stay on disk."""


def round_folder(folder: Path, number: int) -> Path:
    """Return where a round's arrays lie."""
    return folder / f"round_{number:04d}"


def write_round(folder: Path, number: int, episodes: Iterable[tuple[NDArray[Any], Labels]]) -> int:
    """Write a round's episodes one after the other and give the number of labels.

    The round counts once the milestone's progress says so; whatever an interrupted try left is written anew.
    """
    place = round_folder(folder, number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    count = 0
    for part, (observations, labels) in enumerate(episodes):
        np.save(place / f"observations_{part:04d}.npy", observations, allow_pickle=False)
        np.save(place / f"labels_{part:04d}.npy", labels, allow_pickle=False)
        count += len(labels)
    for path in place.iterdir():
        REAL_DISK.fsync(path)
    REAL_DISK.fsync_dir(place)
    return count


def labels_on_disk(folder: Path, rounds: int) -> int:
    """Count the labels of the first rounds whose observations are there as well; fewer where anything is torn."""
    count = 0
    for number in range(rounds):
        for path in sorted(round_folder(folder, number).glob("labels_*.npy")):
            try:
                labels = np.load(path, mmap_mode="r", allow_pickle=False)
                seen = np.load(path.with_name(path.name.replace("labels", "observations")), "r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            count += len(labels) if len(labels) == len(seen) else 0
    return count


class Dataset:
    """All rounds up to one, as one long list of pairs."""

    def __init__(self, folder: Path, rounds: int) -> None:
        parts = [p for k in range(rounds) for p in sorted(round_folder(folder, k).glob("observations_*.npy"))]
        maps = [np.load(path, mmap_mode="r", allow_pickle=False) for path in parts]
        labels = [np.load(p.with_name(p.name.replace("observations", "labels")), allow_pickle=False) for p in parts]
        self.labels: Labels = np.concatenate(labels)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in maps])])
        self._held = sum(part.nbytes for part in maps) <= IN_MEMORY_BYTES
        self._parts: Sequence[NDArray[Any]] = [np.concatenate(maps)] if self._held else maps
        if self._held:
            self._starts = self._starts[[0, -1]]

    def __len__(self) -> int:
        return len(self.labels)

    def in_memory(self) -> NDArray[Any] | None:
        """Return all observations where they are few enough to be held."""
        return self._parts[0] if self._held else None

    def take(self, index_B: NDArray[np.int64]) -> tuple[NDArray[Any], Labels]:
        """Return the pairs with these indices, in their order."""
        if len(self._parts) == 1:
            return self._parts[0][index_B], self.labels[index_B]
        where = np.searchsorted(self._starts, index_B, side="right") - 1
        observations = np.empty((len(index_B), *self._parts[0].shape[1:]), self._parts[0].dtype)
        for part in np.unique(where):
            mine = where == part
            observations[mine] = self._parts[part][index_B[mine] - self._starts[part]]
        return observations, self.labels[index_B]
