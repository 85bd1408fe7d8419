"""The training set of the update benchmarks: rollouts of version 0 in the racing game, prepared for training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, Literal

from schemas.job import Job, RolloutInput
from schemas.model import MAX_MODEL_BYTES
from schemas.settings.models import AgentSettings, TrainerSettings
from schemas.storage.files import read_regular, sha256_of
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.checkpoints.parent import open_parent
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.networks.distributions import ActionDistribution, distribution_for
from trainer.networks.network import Network
from trainer.rollouts.attribution import attribute_rollouts
from trainer.rollouts.batch import Batch
from trainer.rollouts.loading import load_rollouts, rules_of
from trainer.rollouts.training_set import TrainingSet, rescale_and_build
from trainer.simulate.engine import Engine
from trainer.simulate.model_file import load_model
from trainer.simulate.options import SimulationOptions
from trainer.worker.jobs import run_job

ROLLOUT = 2048  #: experiences
ROLLOUTS = 10  #: per cycle
AGENTS = 32
_NOT_TRAINED = 0.15  #: part of the experiences that is held out or has no next state


@dataclass(frozen=True, slots=True)
class Samples:
    """A training set, and the network before training."""

    job: Job
    prepared: TrainingSet
    network: Network
    distribution: ActionDistribution

    @property
    def batch(self) -> Batch:
        """Return the training part."""
        return self.prepared.train

    @property
    def actions(self) -> Any:
        """Return the actions as the engine wrote them, clamped, float32 [n, A]."""
        return self.batch.action_BC[:, : self.job.contract.action_space.width]

    def first(self, n: int) -> Samples:
        """Return the same with fewer experiences."""
        return replace(self, prepared=replace(self.prepared, train=self.batch.first(n)))

    def settings(self, **changed: Any) -> Samples:
        """Return the same with other trainer settings."""
        settings = self.job.settings.model_copy(update=changed)
        return replace(self, job=self.job.model_copy(update={"settings": settings}))


@lru_cache(maxsize=1)
def make_samples(n: int = ROLLOUTS * ROLLOUT) -> Samples:
    """Collect rollouts with version 0 and prepare them as a cycle does; return exactly `n` experiences."""
    rollouts = ceil(n / (1.0 - _NOT_TRAINED) / ROLLOUT)
    with first_version() as (folder, checkpoint):
        model = folder / "model_epoch_0.json"
        engine = Engine(
            SimulationOptions(project=folder, agents=AGENTS, experiences=ROLLOUT, rollouts=rollouts, quiet=True)
        )
        engine.model = load_model(model)
        engine.run()
        inputs = [
            RolloutInput(
                name=path.name,
                sha256=sha256_of(path.read_bytes()),
                source=str(path),
                cache="",
                is_new=True,
                behaviours=(str(model),),
            )
            for path in sorted(engine.exports.iterdir())
        ]
        job = _job("train", folder, rollouts=tuple(inputs), parent=str(folder / checkpoint))
        notices = Notices(MemoryReporter())
        cache, distribution = PrefetchCache(), distribution_for(job.contract.action_space)
        parent = open_parent(job, notices, cache)
        loaded = load_rollouts(inputs, rules_of(job), notices, cache)
        attributed = attribute_rollouts(loaded, parent, job, notices, cache)
        prepared = rescale_and_build(attributed, parent, distribution, job, notices)
    if prepared.train.size < n:
        raise RuntimeError(
            f"{rollouts} rollouts contain {prepared.train.size} experiences to train on, but {n} are needed"
        )
    return Samples(job, prepared, prepared.network, distribution).first(n)


def first_checkpoint() -> Checkpoint:
    """Return version 0 as a checkpoint."""
    with first_version() as (folder, name):
        return checkpoint_from(load_document(read_regular(folder / name, limit=MAX_MODEL_BYTES), name))


@contextmanager
def first_version() -> Iterator[tuple[Path, str]]:
    """Yield a folder with version 0, and the name of its checkpoint."""
    with tempfile.TemporaryDirectory(prefix="hotlap-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        result = run_job(_job("initial", folder), MemoryReporter())
        yield folder, result.checkpoint


def _job(
    kind: Literal["initial", "train"],
    folder: Path,
    *,
    rollouts: tuple[RolloutInput, ...] = (),
    parent: str | None = None,
) -> Job:
    agent = AgentSettings()
    return Job(
        kind=kind,
        policy_version=1 if rollouts else 0,
        output=str(folder),
        contract=agent.contract(),
        hidden_sizes=agent.hidden_sizes,
        settings=TrainerSettings(),
        rollouts=rollouts,
        parent=parent,
    )
