"""Previews of the next job, so that a warm trainer can read its inputs before it arrives."""

from __future__ import annotations

from daemon.runtime.context import Context
from daemon.training.job_builder import expected_job
from schemas.job import Job


class JobPreviews:
    """The previews for one warm trainer. Each contains only what the earlier ones did not contain."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sent: set[str] = set()  #: hashes of rollouts
        self._parent: str | None = None
        self._basis: tuple[str | None, int] | None = None

    def next_job(self, *, is_beside_another: bool) -> Job | None:
        """Return the next preview; None if neither the parent nor the pending rollouts have changed.

        While another trainer trains, the parent is not known, and the GPU must not be used. Otherwise None if enough
        rollouts for a cycle are pending, because the job itself follows at once.
        """
        ledger, needed = self._context.ledger, self._context.settings.daemon.auto_train_after_n_rollouts
        last = ledger.last_publication()
        if last is None:
            return None
        parent = None if is_beside_another else last.sha256
        basis = (parent, ledger.pending_count())
        if basis == self._basis or (basis[1] >= needed and not is_beside_another):
            return None
        if parent != self._parent:
            self._sent.clear()  # what depends on the parent is computed again
        self._basis, self._parent = basis, parent
        job = expected_job(self._context, self._sent)
        self._sent.update(rollout.sha256 for rollout in job.rollouts)
        return _without_parent_and_gpu(job) if is_beside_another else job


def _without_parent_and_gpu(job: Job) -> Job:
    settings = job.settings.model_copy(update={"device": "cpu"})
    return job.model_copy(update={"parent": None, "parent_sha256": None, "settings": settings})
