"""Decides when a warm trainer is worth its memory. Pure functions: no clock, no process, no measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.ledger.cycle import Phase
from daemon.process.machine import Memory
from schemas.job import EpochDone

MIN_LEAD_S = 10.0
_LEAD_OF_START = 2.0
"""A warm trainer starts so long before it is needed: ten seconds, or twice as long as the last start took."""
USUAL_BYTES = 400_000_000
"""The memory of a waiting trainer, as long as none was measured."""
MIN_RESERVE_BYTES = 512_000_000
RESERVE_SHARE = 0.1
"""What must remain free beside two trainers: for the game, and for what the training still needs."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision depends on."""

    phase: Phase | None  #: of the last cycle since the daemon started; None: there was none
    is_ending: bool  #: an earlier trainer has not ended yet
    has_parent: bool  #: a model is published, so the next job is to train
    pending: int  #: rollouts
    needed: int  #: rollouts
    filling_s: float  #: since the last claim
    gap_s: float | None  #: from the last publish to the claim that followed it; None: not known
    training_left_s: float | None  #: None: not known

    @property
    def is_beside_another(self) -> bool:
        """Return whether another trainer works on its job, and does not have to be ended."""
        return self.phase in {Phase.TRAINING, Phase.SELECTING, Phase.PUBLISHING} and not self.is_ending

    @property
    def is_idle(self) -> bool:
        """Return whether the daemon waits for rollouts and no trainer is running."""
        return self.phase in {None, Phase.PUBLISHED, Phase.FAILED} and not self.is_ending


def lead_s(start_s: float | None) -> float:
    """Return how long before it is needed a warm trainer starts; `start_s` is how long the last start took."""
    return MIN_LEAD_S if start_s is None else max(MIN_LEAD_S, _LEAD_OF_START * start_s)


def is_wanted(situation: Situation, *, cores: float, lead_s: float) -> bool:
    """Return whether a warm trainer should start.

    While the daemon waits: always, but after a restart only once a rollout is pending. While another trainer trains:
    only if both ends are near, that of the training and that of filling the next cycle, and a second core exists. Near
    means within `lead_s`.
    """
    if situation.is_idle:
        return situation.phase is not None or (situation.has_parent and situation.pending > 0)
    left_s = situation.training_left_s
    if not situation.is_beside_another or left_s is None or left_s > lead_s:
        return False
    return cores >= 2 and _fills_soon(situation, lead_s)


def is_engine_fast(gap_s: float | None, *, cores: float, lead_s: float) -> bool:
    """Return whether a warm trainer will probably start beside the trainer that starts now."""
    return cores >= 2 and gap_s is not None and gap_s <= lead_s


def _fills_soon(situation: Situation, lead_s: float) -> bool:
    """Return whether the next cycle is expected to be full within `lead_s` after this one is published."""
    if situation.gap_s is not None and situation.gap_s <= lead_s:
        return True
    missing = situation.needed - situation.pending
    return missing <= 0 or (situation.pending > 0 and missing * situation.filling_s / situation.pending <= lead_s)


def training_left_s(
    epochs: Sequence[EpochDone], total: int, *, since_epoch_s: float, elapsed_s: float, last_s: float | None
) -> float | None:
    """Return the expected rest of a training, from its epochs, or else from how long the last training took."""
    if epochs:
        mean_s = sum(epoch.seconds for epoch in epochs) / len(epochs)
        return max(0.0, (total - len(epochs)) * mean_s - since_epoch_s)
    return None if last_s is None else max(0.0, last_s - elapsed_s)


def needed_memory(waiting: Memory | None, *, total_bytes: int, is_beside_another: bool) -> Memory:
    """Return the memory that must be free before a warm trainer starts; `waiting` is that of one, if measured."""
    reserve = int(max(MIN_RESERVE_BYTES, RESERVE_SHARE * total_bytes)) if is_beside_another else 0
    waiting = waiting or Memory(USUAL_BYTES, USUAL_BYTES)
    return Memory(waiting.resident + reserve, waiting.committed + reserve)


def is_enough(free: Memory, needed: Memory) -> bool:
    """Return whether the free memory suffices."""
    return free.resident >= needed.resident and free.committed >= needed.committed
