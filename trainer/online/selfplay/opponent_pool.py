"""The opponent pool: past policies on disk, each with an Elo rating; the learner has a rating too."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.contract import PolicyContract
from schemas.model import MAX_MODEL_BYTES
from schemas.storage.files import REAL_DISK, read_with_retries, unlink_with_retries, write_atomic
from trainer.online.actor import Actor

_NAME = re.compile(r"policy_\d{10}\.npz")
START_RATING = 1000.0
_K = 16.0  #: largest change of a rating by one match, in points
_SCALE = 400.0  #: difference in points at which the better one's expected score is ten times the other's


def expected_score(own: float, other: float) -> float:
    """Return the expected score, 0 to 1, of one rating against another (Elo 1978)."""
    return float(1.0 / (1.0 + 10.0 ** ((other - own) / _SCALE)))


@dataclass(slots=True)
class Opponent:
    """A past policy."""

    name: str  #: the name of its file
    rating: float
    actor: Actor


class OpponentPool:
    """The past policies of a run, the oldest first. The first one stays, as a reference for the ratings."""

    def __init__(self, folder: Path, contract: PolicyContract, *, size: int) -> None:
        self.folder, self._contract, self._size = folder, contract, size
        self.opponents: list[Opponent] = []
        self.rating = START_RATING

    def add(self, actor: Actor, steps: int) -> None:
        """Add the learner's present policy with its rating. If the pool is too large, remove the second oldest one."""
        name = f"policy_{steps:010d}.npz"
        REAL_DISK.make_folder(self.folder)
        write_atomic(self.folder / name, actor.to_npz(), durable=False)
        self.opponents.append(Opponent(name, self.rating, actor))
        if len(self.opponents) > self._size:
            self.opponents.pop(1)

    def record_result(self, name: str, score: float) -> None:
        """Update the ratings after a match: 1 if the learner won, 0.5 if it was a draw. Ignore a removed opponent."""
        for opponent in self.opponents:
            if opponent.name == name:
                change = _K * (score - expected_score(self.rating, opponent.rating))
                self.rating += change
                opponent.rating -= change

    def state(self) -> dict[str, Any]:
        """Return plain values for a checkpoint, and write them to elo.json next to the policies, for users."""
        plain = {"rating": self.rating, "members": [[opponent.name, opponent.rating] for opponent in self.opponents]}
        write_atomic(self.folder / "elo.json", json.dumps(plain, indent=1).encode(), durable=False)
        return plain

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, and load the policies. Raises ModelError or OSError."""
        self.rating = float(state["rating"])
        self.opponents = [Opponent(name, float(rating), self._load_actor(name)) for name, rating in state["members"]]

    def remove_unused_files(self) -> None:
        """Remove the files of policies that are no longer in the pool. Call it after a checkpoint was saved."""
        used = {opponent.name for opponent in self.opponents}
        for path in self.folder.glob("policy_*.npz"):
            if _NAME.fullmatch(path.name) and path.name not in used:  # not a copy that a user made
                with contextlib.suppress(OSError):  # another program has it open: a later call removes it
                    unlink_with_retries(path)

    def _load_actor(self, name: str) -> Actor:
        data = read_with_retries(self.folder / Path(name).name, limit=MAX_MODEL_BYTES)
        return Actor.from_npz(data, self._contract, f"{name} in the opponent pool")
