"""The current cycle: its phase in the ledger, its files, and the publish of its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.ledger.cycle import (
    CauseRemoved,
    Cycle,
    Event,
    Failed,
    Phase,
    Published,
    RetryPolicy,
    Selected,
    Trained,
    advance,
    may_retry,
)
from daemon.ledger.records import Publication
from daemon.publishing.foreign_files import ForeignFiles
from daemon.publishing.pointer import PublishError
from daemon.publishing.publish import PublishedModel, publish
from daemon.runtime.context import Context
from daemon.training.job_builder import project_contract
from daemon.training.messages import log_publication
from schemas.contract import PolicyContract
from schemas.job import Result, Suspect


class ActiveCycle:
    """The current cycle, or the last one until another begins."""

    def __init__(self, context: Context, cycle: Cycle, retry_policy: RetryPolicy) -> None:
        self.cycle = cycle
        self._context = context
        self._retry_policy = retry_policy
        self._began_s = context.clock.monotonic()

    @property
    def phase(self) -> Phase:
        """Return the cycle's phase."""
        return self.cycle.phase

    @property
    def is_over(self) -> bool:
        """Return whether the cycle is published, failed or parked."""
        return self.phase in {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the cycle began."""
        return self._context.clock.monotonic() - self._began_s

    @property
    def staging(self) -> Path:
        """Return the folder that the trainer writes to."""
        return self._context.paths.staging / f"cycle_{self.cycle.id:06d}"

    @property
    def log(self) -> Path:
        """Return the log file for the trainer's output."""
        return self._context.paths.cycle_log(self.cycle.id)

    def restart_timer(self) -> None:
        """Let the elapsed time begin now."""
        self._began_s = self._context.clock.monotonic()

    def move(self, event: Event) -> None:
        """Apply an event: move the cycle to its next phase, also in the ledger."""
        now_s = self._context.clock.utc_s()
        failures = self._context.ledger.failures_in_a_row() if isinstance(event, Failed) else 0
        after = advance(self.cycle, event, now_s=now_s, retry_policy=self._retry_policy, failures_in_a_row=failures)
        self._context.ledger.move(self.cycle, after, at_s=now_s)
        self.cycle = after

    def will_retry(self, failed: Failed) -> bool:
        """Return whether the cycle is tried again with the same inputs after this failure."""
        return may_retry(self.cycle, failed, self._retry_policy)

    def mark_suspects(self, suspects: Sequence[Suspect], removed: CauseRemoved) -> None:
        """Move the cycle to its next phase, without the rollouts that made its attempt fail."""
        now_s = self._context.clock.utc_s()
        after = advance(self.cycle, removed, now_s=now_s, retry_policy=self._retry_policy)
        self._context.ledger.mark_suspects(self.cycle, after, suspects, at_s=now_s)
        self.cycle = after

    def change_parent(self, parent: str | None, removed: CauseRemoved, *, meta: tuple[str, str]) -> None:
        """Move the cycle to its next phase, in which it continues from another checkpoint."""
        now_s = self._context.clock.utc_s()
        after = advance(self.cycle, removed, now_s=now_s, retry_policy=self._retry_policy)
        self._context.ledger.change_parent(self.cycle, after, parent, meta=meta, at_s=now_s)
        self.cycle = after

    def store_result(self, result: Result) -> None:
        """Store the trainer's result in the ledger. The cycle can then be published."""
        if self.phase is Phase.TRAINING:
            self.move(Trained())
        now_s = self._context.clock.utc_s()
        after = advance(self.cycle, Selected(), now_s=now_s, retry_policy=self._retry_policy)
        value_loss = result.losses.get("value_loss")
        self._context.ledger.store_result(self.cycle, after, result, value_loss=value_loss, at_s=now_s)
        self.cycle = after

    def publish(self) -> Publication:
        """Publish the model of the stored result. `commit` must follow.

        Raises PublishError or ModelError if the files do not match the result, OSError if the disk fails.
        """
        context, cycle = self._context, self.cycle
        result = self._result()
        published = publish(
            result,
            staging=self.staging,
            cycle=cycle.id,
            contract=self._contract(result),
            paths=context.paths,
            keep_checkpoints=context.settings.daemon.keep_checkpoints == "all",
            others=ForeignFiles(context),
            disk=context.disk,
        )
        self._report_old_copies(published)
        at_s = context.clock.utc_s()
        return Publication(cycle.id, cycle.policy_version, result.epoch, published.model, published.sha256, at_s)

    def _report_old_copies(self, published: PublishedModel) -> None:
        context, names = self._context, ", ".join(published.old_copies)
        if names:
            reason = "another program has them open, or what has these names cannot be moved"
            text = f"copies in Models were not replaced: {names}; {published.copy_error or reason}"
            context.warn("W_COPIES", f"{text}; the engine's model is published, and the next publish tries again")
        else:
            context.clear_warning("W_COPIES")

    def commit(self, publication: Publication) -> None:
        """Record the publication in the ledger, which ends the cycle."""
        result = self._result()
        after = advance(self.cycle, Published(), now_s=publication.at_s, retry_policy=self._retry_policy)
        self._context.ledger.commit_publication(
            self.cycle, after, publication, seconds=self.elapsed_s, contract=self._contract(result).to_bytes()
        )
        self.cycle = after
        log_publication(self._context.log, publication, result, self._context.ledger.adoption(self.cycle.id))

    def _contract(self, result: Result) -> PolicyContract:
        is_own = self.cycle.kind == "initial" or self.cycle.is_adoption
        return result.contract if is_own else project_contract(self._context)

    def _result(self) -> Result:
        result = self._context.ledger.result(self.cycle.id)
        if result is None:
            raise PublishError(
                f"the result of cycle {self.cycle.id} is not in the ledger", hint="the cycle is trained again"
            )
        return result
