"""Tells a trainer that waits what its job will most likely need, as soon as it is known: it reads that ahead."""

from __future__ import annotations

from daemon.runtime.context import Context
from daemon.training.job_builder import expected_job
from schemas.job import Job


class JobPreview:
    """What one spare trainer was told."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: set[str] = set()
        self._basis: tuple[str, int] | None = None

    def next_job(self) -> Job | None:
        """Return what the trainer should hear now: another parent, other rollouts. None where nothing is new.

        The last rollout of a trigger is not worth a word: the job itself follows at once.
        """
        ledger, needed = self._context.ledger, self._context.settings.daemon.auto_train_after_n_rollouts
        last = ledger.last_publication()
        if last is None:
            return None
        basis = (last.sha256, ledger.pending_count())
        if basis == self._basis or basis[1] >= needed:
            return None
        self._basis = basis
        job = expected_job(self._context, self._told)
        self._told.update(rollout.sha256 for rollout in job.rollouts)
        return job
