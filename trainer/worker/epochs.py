"""The epochs of one cycle, whichever algorithm learns: a checkpoint, an event and a score after each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from schemas.job import EpochDone, Job, finite_or_none
from trainer.checkpoints.checkpoint import Checkpoint, lineage_of, standard_error_of
from trainer.checkpoints.output import Output
from trainer.checkpoints.selection import CheckpointCandidate, score
from trainer.common.reporting.reporter import Reporter
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers


class Learner(Protocol):
    """A policy and its training set, for the epochs of one cycle."""

    device: torch.device
    experiences: int  #: in the training set, including those held out
    epochs: int  #: the number that is planned

    @property
    def network(self) -> Network:
        """Return the network as it is now."""

    @property
    def normalisers(self) -> Normalisers:
        """Return the normalisers of the network."""

    @property
    def probe(self) -> torch.Tensor:
        """Return raw observations for the model's probe, float32 [p, O]."""

    @property
    def policy_trained(self) -> bool:
        """Return whether this cycle changes the policy."""

    def run(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield (epoch, losses by name) after each epoch, from 1. `value_loss` is on held-out experiences."""

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer's state dict; the next epoch changes its tensors."""

    def critics_state(self) -> dict[str, Any]:
        """Return the state of critics that exist only in the trainer; {} without any."""


class Epochs:
    """Runs a learner's epochs and writes their checkpoints."""

    def __init__(self, job: Job, learner: Learner, reporter: Reporter) -> None:
        self.job, self.learner, self.reporter = job, learner, reporter
        self.output = Output(Path(job.output))
        self.first_step_at = 0.0  #: seconds since 1970
        self.first_step_s = 0.0  #: the same moment on the monotonic clock

    def run(self) -> list[CheckpointCandidate]:
        """Train epoch by epoch and queue a checkpoint after each. Return the candidates for the ranking."""
        history: dict[str, list[float]] = {}
        candidates: list[CheckpointCandidate] = []
        self.first_step_at, self.first_step_s = time.time(), time.monotonic()
        since = self.first_step_s
        self._report_progress(0)
        try:
            for epoch, losses in self.learner.run():
                for name, value in losses.items():
                    history.setdefault(name, []).append(value)
                candidates.append(self._queue_checkpoint(epoch, history))
                self.reporter.send(self._epoch_done(candidates[-1], losses, seconds=time.monotonic() - since))
                since = time.monotonic()
                self._report_progress(epoch)
        finally:
            self.output.wait()
        return candidates

    def _epoch_done(self, candidate: CheckpointCandidate, losses: dict[str, float], *, seconds: float) -> EpochDone:
        terms = score(candidate.losses) if candidate.finite else None
        return EpochDone(
            epoch=candidate.epoch,
            epochs=self.learner.epochs,
            losses={name: finite_or_none(value) for name, value in losses.items()},
            score=terms.total if terms else None,
            seconds=seconds,
        )

    def _report_progress(self, done: int) -> None:
        epochs = self.learner.epochs
        self.reporter.report_activity(f"epoch {min(done + 1, epochs)} of {epochs}", 0.1 + 0.85 * done / epochs)

    def _queue_checkpoint(self, epoch: int, history: dict[str, list[float]]) -> CheckpointCandidate:
        learner = self.learner
        checkpoint = Checkpoint.of(
            learner.network,
            normalisers=learner.normalisers,
            contract=self.job.contract,
            hidden_sizes=self.job.hidden_sizes,
            lineage=lineage_of(self.job, epoch),
            policy_trained=learner.policy_trained,
            optimizer_state=learner.optimizer_state(),
            critics_state=learner.critics_state(),
            history=history,
            network_class=self.job.settings.network,
            probe_observations=learner.probe,
        )
        name = f"model_epoch_{epoch}.pt"
        policy_loss = history["policy_loss"][-1] if "policy_loss" in history else None
        candidate = CheckpointCandidate(
            epoch,
            name,
            tuple(history["value_loss"]),
            checkpoint.is_finite(),
            policy_loss,
            standard_error=standard_error_of(history),
        )
        self.output.queue_checkpoint(name, checkpoint)
        return candidate
