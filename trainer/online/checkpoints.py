"""A run's files: what a checkpoint holds besides the policy, where it lies, which ones stay."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from schemas.errors import HotlapError, ModelError
from schemas.model import MAX_MODEL_BYTES, PROBE_SIZE, Lineage
from schemas.storage.files import read_regular, write_atomic
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, document_bytes, load_document
from trainer.checkpoints.export import export
from trainer.networks.normaliser import Normalisers
from trainer.online.learner import OnlineLearner

NAME = re.compile(r"model_step_(\d{10})\.pt")


@dataclass(slots=True)
class RunProgress:
    """How far a run is: with the weights all that a resumed one needs, since randomness is named by these counts."""

    steps: int = 0  #: agent steps
    iteration: int = 0  #: batches learned from
    seconds: float = 0.0  #: of training, over all starts
    best: float | None = None  #: lower bound of the best evaluation's mean return, in this stage
    stage: int = 0  #: which one that was
    last: float | None = None  #: the same of the last evaluation
    history: dict[str, list[float]] = field(default_factory=dict)  #: one number a batch, by loss
    kept: dict[str, float] = field(default_factory=dict)  #: checkpoint name to `last` when it was written
    ground: dict[str, Any] = field(default_factory=dict)  #: what the worlds keep

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps; the history is the checkpoint's own."""
        names = ("steps", "iteration", "seconds", "best", "stage", "last", "kept", "ground")
        return {name: getattr(self, name) for name in names}


def checkpoint_of(learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Checkpoint:
    """Take a picture of the learner as it is now."""
    return Checkpoint.of(
        learner.network,
        normalisers=learner.normalisers,
        contract=learner.contract,
        hidden_sizes=learner.settings.train.hidden_sizes,
        lineage=Lineage(
            cycle=progress.iteration, epoch=1, seed=learner.settings.run.seed, versions={"torch": torch.__version__}
        ),
        policy_trained=learner.trained,
        optimizer_state=learner.optimizer_state(),
        history=progress.history,
        probe_observations=probe[:PROBE_SIZE],
    )


class CheckpointManager:
    """The folder of checkpoints. What others read appears whole or not at all."""

    def __init__(self, folder: Path, *, keep_newest: int, keep_best: int) -> None:
        self.folder = folder
        self._newest, self._best = keep_newest, keep_best
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Path:
        """Write the checkpoint of this step, then let go of those that need not stay."""
        path = self.folder / f"model_step_{progress.steps:010d}.pt"
        progress.kept[path.name] = float("-inf") if progress.last is None else progress.last
        for name in outdated(progress.kept, newest=self._newest, best=self._best):
            del progress.kept[name]
        self._write(path, learner, progress, probe)
        for old in self.folder.glob("model_step_*.pt"):
            if old.name not in progress.kept:
                old.unlink(missing_ok=True)
                _normaliser_path(old).unlink(missing_ok=True)
        return path

    def save_as(self, name: str, learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Path:
        """Write a checkpoint and its model JSON under a name of their own: best_model, final_model."""
        path = self.folder / f"{name}.pt"
        checkpoint = self._write(path, learner, progress, probe)
        model = export(checkpoint, policy_version=progress.iteration, score=None)
        write_atomic(path.with_suffix(".json"), model)
        return path

    def _write(self, path: Path, learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Checkpoint:
        checkpoint = checkpoint_of(learner, progress, probe)
        if not checkpoint.is_finite():
            raise HotlapError(
                "the policy holds weights that are not finite",
                hint="lower train.learning_rate and --resume from the last checkpoint",
                code="E_DIVERGED",
            )
        document = checkpoint.document() | {"online": progress.state_dict()}
        write_atomic(_normaliser_path(path), normaliser_json(checkpoint.normalisers))
        write_atomic(path, document_bytes(document))
        return checkpoint

    def newest(self) -> tuple[Path | None, list[str]]:
        """Return the checkpoint that went furthest and can be read, if any, and what to say of those that cannot.

        Writing is atomic, so only a disk that lost bytes leads past the first.
        """
        torn: list[str] = []
        names = sorted(
            (path for path in self.folder.glob("model_step_*.pt") if NAME.fullmatch(path.name)), reverse=True
        )
        for path in names:
            try:
                load_document(read_regular(path, limit=MAX_MODEL_BYTES), path.name)
                return path, torn
            except (HotlapError, OSError) as error:
                torn.append(f"{path.name} is passed over: {error}")
        return None, torn


def outdated(kept: dict[str, float], *, newest: int, best: int) -> list[str]:
    """Name the checkpoints that are neither among the newest nor among those that evaluated best."""
    by_age = sorted(kept, reverse=True)
    by_score = sorted(kept, key=lambda name: (kept[name], name), reverse=True)
    stay = {*by_age[:newest], *by_score[:best]}
    return [name for name in by_age if name not in stay]


def _normaliser_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.normaliser.json")


def normaliser_json(normalisers: Normalisers) -> bytes:
    """Return the running statistics as JSON, with all their digits."""
    seen, returns = normalisers.observations, normalisers.returns
    document = {
        "observations": {"mean": seen.mean_O.tolist(), "var": seen.var_O.tolist(), "count": seen.count},
        "returns": returns.state_dict(),
    }
    return json.dumps(document, indent=1).encode()


def resume(path: Path, learner: OnlineLearner) -> tuple[RunProgress, torch.Tensor]:
    """Fill a fresh learner from a checkpoint; give how far it was and its probe. Raises ModelError or OSError."""
    document = load_document(read_regular(path, limit=MAX_MODEL_BYTES), path.name)
    checkpoint = checkpoint_from(document)
    if "online" not in document:
        raise ModelError(f"{path.name} is no checkpoint of an online run", hint="start without --resume")
    differences = checkpoint.contract.differences(learner.contract)
    if checkpoint.hidden_sizes != learner.settings.train.hidden_sizes:
        differences = (*differences, f"other hidden sizes than {list(checkpoint.hidden_sizes)}")
    if differences:
        raise ModelError(
            f"the config has {' and '.join(differences)} of {path.name}",
            hint="set it back, or start without --resume",
            code="E_CONTRACT",
        )
    learner.network.load_state_dict(checkpoint.policy_state_dict)
    learner.normalisers, learner.trained = checkpoint.normalisers, checkpoint.policy_trained
    learner.moments = dict(checkpoint.optimizer_state_dict.get("state", {}))
    return RunProgress(**document["online"], history=checkpoint.training_history), checkpoint.probe_observations
