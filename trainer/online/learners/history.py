"""The experiences of a run, the newest ones up to a limit, in memory and in a file beside a checkpoint."""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from schemas.errors import HotlapError
from schemas.storage.files import read_with_retries, write_atomic
from trainer.rollouts.experiences import Experiences, concatenate

MAX_BYTES = 16 << 30


class History:
    """Batches of experiences, the oldest first."""

    def __init__(self, most: int) -> None:
        """Keep at least the last batch, and others as long as there are not more than `most` experiences."""
        self._most, self._batches = most, deque[Experiences]()
        self._size = 0

    def append(self, experiences: Experiences) -> None:
        """Add a batch, and forget the oldest ones."""
        self._batches.append(experiences)
        self._size += experiences.size
        while len(self._batches) > 1 and self._size > self._most:
            self._size -= self._batches.popleft().size

    def experiences(self) -> Experiences:
        """Return all experiences; those of the last batch are new."""
        *old, last = self._batches
        return concatenate([*(replace(one, is_new_B=np.zeros_like(one.is_new_B)) for one in old), last])

    def change(self, changed: Callable[[Experiences], Experiences]) -> None:
        """Replace each batch by what a function returns for it."""
        self._batches = deque(map(changed, self._batches))

    def save(self, path: Path) -> None:
        """Write all batches to a file, completely or not at all."""
        columns = {
            f"{field.name}.{number}": getattr(batch, field.name)
            for number, batch in enumerate(self._batches)
            for field in fields(Experiences)
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, batches=np.int64(len(self._batches)), **columns)
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path) -> bool:
        """Read the batches of a file that `save` wrote; return whether it could be read."""
        try:
            data = read_with_retries(path, limit=MAX_BYTES)
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                batches = [
                    Experiences(**{field.name: file[f"{field.name}.{number}"] for field in fields(Experiences)})
                    for number in range(int(file["batches"]))
                ]
        except (HotlapError, OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
            return False
        self._batches, self._size = deque(batches), sum(batch.size for batch in batches)
        return bool(batches)
