"""Measures how soon after a publish the next cycle is full, and how long a training takes."""

from __future__ import annotations

from daemon.ledger.cycle import Cycle
from daemon.runtime.context import Context
from daemon.training.active_cycle import ActiveCycle
from daemon.training.progress import CycleProgress
from daemon.training.timeouts import Timeouts
from daemon.training.warm.decision import Situation, training_left_s


class Pace:
    """The times of the last cycle, in seconds of an `AwakeClock`."""

    def __init__(self) -> None:
        self.gap_s: float | None = None  #: from the last publish to the claim that followed it
        self._published: float | None = None
        self._training_s: float | None = None

    def record_claim(self, now: float) -> None:
        """Record that the next cycle was full and begins."""
        self.gap_s = None if self._published is None else now - self._published
        self._published = None

    def record_result(self, cycle: Cycle, timeouts: Timeouts, now: float) -> None:
        """Record that a cycle's trainer has sent its result."""
        if cycle.job_kind == "train":
            self._training_s = now - timeouts.started

    def record_publish(self, now: float) -> None:
        """Record a publish."""
        self._published = now

    def training_left_s(self, timeouts: Timeouts | None, progress: CycleProgress, now: float) -> float | None:
        """Return the expected rest of the running training: 0 without a trainer, None if it is not known."""
        if timeouts is None:
            return 0.0
        if not timeouts.ready:
            return None
        return training_left_s(
            progress.epochs,
            progress.epochs_total,
            since_epoch_s=now - timeouts.last_progress,
            elapsed_s=now - timeouts.started,
            last_s=self._training_s,
        )


def situation_of(
    context: Context, active: ActiveCycle | None, *, is_ending: bool, gap_s: float | None, left_s: float | None
) -> Situation:
    """Return the situation; `active` is the last cycle since the daemon started."""
    return Situation(
        phase=active.phase if active else None,
        is_ending=is_ending,
        has_parent=active is not None or context.ledger.last_publication() is not None,
        pending=context.ledger.pending_count(),
        needed=context.settings.daemon.auto_train_after_n_rollouts,
        filling_s=active.elapsed_s if active else 0.0,
        gap_s=gap_s,
        training_left_s=left_s,
    )
