"""What checks find: violations of invariants, and the findings of `hotlap doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from schemas.storage.windows_paths import shown_path


class Invariant(StrEnum):
    """What must always be true for a project folder."""

    NOTHING_LOST = "nothing lost"
    COUNTED_ONCE = "counted once"
    ENGINE_VIEW = "the engine's view is whole"
    LEDGER = "the ledger is sound"
    NO_LITTER = "no litter"
    NO_PROCESS = "no process left"
    USER_FILES = "user files untouched"


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation of an invariant."""

    invariant: Invariant
    message: str
    path: Path

    def __str__(self) -> str:
        return f"{self.invariant}: {self.message} ({shown_path(self.path)})"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    level: str  #: ok, note or wrong
    topic: str
    text: str
