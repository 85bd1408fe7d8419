"""The progress of a cycle, from the events of its trainer. Impossible events are ignored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.job import EpochDone, Event, Heartbeat, Result
from schemas.text import printable

_MAX_DOING_CHARACTERS = 200
_SHOWN_LOSSES = ("value_loss", "policy_loss")


@dataclass(frozen=True, slots=True)
class CycleProgress:
    """The progress of the running cycle, or else of the last one."""

    epochs: tuple[EpochDone, ...] = ()
    epochs_total: int = 0
    chosen: int | None = None
    doing: str = ""
    fraction: float = 0.0  #: in [0, 1]; never decreases within a run

    def after(self, event: Event) -> CycleProgress:
        """Return the progress after an event. Epochs out of range and repeated epochs are ignored."""
        match event:
            case Heartbeat(doing=doing, progress=fraction):
                highest = max(self.fraction, min(1.0, fraction)) if fraction == fraction else self.fraction
                return replace(self, doing=printable(doing, limit=_MAX_DOING_CHARACTERS), fraction=highest)
            case EpochDone(epoch=epoch) if self._is_next(epoch):
                fraction = max(self.fraction, epoch / self.epochs_total)
                losses = {name: event.losses[name] for name in _SHOWN_LOSSES if name in event.losses}
                done = event.model_copy(update={"losses": losses})
                return replace(self, epochs=(*self.epochs, done), fraction=fraction)
        return self

    @classmethod
    def of_result(cls, result: Result) -> CycleProgress:
        """Return the progress of a cycle that has ended, from what the ledger stores of it."""
        ranking = sorted(result.ranking, key=lambda ranked: ranked.epoch)
        epochs = tuple(
            EpochDone(
                epoch=ranked.epoch,
                epochs=len(ranking),
                losses={"value_loss": ranked.value_loss, "policy_loss": ranked.policy_loss},
                score=ranked.score,
                seconds=0.0,
            )
            for ranked in ranking
        )
        return cls(epochs, epochs_total=len(epochs), chosen=result.epoch, fraction=1.0)

    def is_ahead_of(self, before: CycleProgress) -> bool:
        """Return whether the fraction or the number of epochs is greater than in `before`."""
        return self.fraction > before.fraction or len(self.epochs) > len(before.epochs)

    def _is_next(self, epoch: int) -> bool:
        last = self.epochs[-1].epoch if self.epochs else 0
        return last < epoch <= self.epochs_total
