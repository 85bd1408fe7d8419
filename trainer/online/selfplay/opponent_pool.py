"""Past policies on disk, each with an Elo rating; the learner has one too."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.contract import PolicyContract
from schemas.errors import ModelError
from schemas.model import MAX_MODEL_BYTES, Dense, Stack
from schemas.storage.files import read_regular, write_atomic
from trainer.online.actor import Actor

START_RATING = 1000.0
_K = 16.0  #: points a match may move
_SPREAD = 400.0  #: points that make a win ten times as likely


def expected_score(own: float, other: float) -> float:
    """Return the expected result, 0 to 1, of one rating against another (Elo 1978)."""
    return float(1.0 / (1.0 + 10.0 ** ((other - own) / _SPREAD)))


@dataclass(slots=True)
class PoolOpponent:
    """One past policy."""

    name: str  #: its file, without folder
    rating: float
    actor: Actor


class OpponentPool:
    """The past policies of a run, the oldest first. The first stays: it is what everything is measured from."""

    def __init__(self, folder: Path, contract: PolicyContract, *, size: int) -> None:
        self.folder, self._contract, self._size = folder, contract, size
        self.opponents: list[PoolOpponent] = []
        self.rating = START_RATING
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, actor: Actor, steps: int) -> None:
        """Let the learner's present policy join, with the learner's rating; beyond the size the second oldest goes."""
        name = f"policy_{steps:010d}.npz"
        write_atomic(self.folder / name, _packed(actor), durable=False)
        self.opponents.append(PoolOpponent(name, self.rating, actor))
        if len(self.opponents) > self._size:
            self.opponents.pop(1)

    def record_result(self, name: str, score: float) -> None:
        """Take note of a match of the learner's: 1 won, 0 lost, 0.5 drawn. A member that has gone is passed over."""
        for member in self.opponents:
            if member.name == name:
                change = _K * (score - expected_score(self.rating, member.rating))
                self.rating += change
                member.rating -= change

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; also written beside the policies, for people."""
        plain = {"rating": self.rating, "members": [[m.name, m.rating] for m in self.opponents]}
        write_atomic(self.folder / "elo.json", json.dumps(plain, indent=1).encode(), durable=False)
        return plain

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave and load the policies. Raises ModelError or OSError."""
        self.rating = float(state["rating"])
        self.opponents = [PoolOpponent(name, float(rating), self._load_actor(name)) for name, rating in state["members"]]

    def remove_unused_files(self) -> None:
        """Remove the files of policies that have gone; only when a checkpoint without them is on disk."""
        known = {member.name for member in self.opponents}
        for path in self.folder.glob("policy_*.npz"):
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _load_actor(self, name: str) -> Actor:
        data = read_regular(self.folder / Path(name).name, limit=MAX_MODEL_BYTES)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                layers = [
                    Dense(saved[f"weights_{i}"], saved[f"biases_{i}"]) for i in range((len(saved.files) - 1) // 2)
                ]
                return Actor(self._contract, Stack(tuple(layers[:-1]), layers[-1]), saved["log_std"])
        except (OSError, EOFError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
            raise ModelError(f"{name} in the pool cannot be read: {error}", hint="start without --resume") from None


def _packed(actor: Actor) -> bytes:
    arrays = {"log_std": actor.log_std_A}
    for i, layer in enumerate(actor.policy.layers()):
        arrays |= {f"weights_{i}": layer.weights, f"biases_{i}": layer.biases}
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()
