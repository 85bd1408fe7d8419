"""Checkpoints of an online run: their content, saving, removing old ones, and resuming."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import HotlapError, ModelError
from schemas.model import MAX_MODEL_BYTES, PROBE_SIZE, Lineage
from schemas.storage.files import read_with_retries, unlink_with_retries, write_atomic
from trainer.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_from,
    document_bytes,
    history_of,
    load_document,
    tensors_are_finite,
)
from trainer.checkpoints.export import export
from trainer.checkpoints.image_checkpoint import image_document, is_image_document
from trainer.checkpoints.tensor_copy import copy_tensors
from trainer.networks.image_network import copy_of_state
from trainer.networks.normaliser import Normalisers
from trainer.online.evaluation.best_model import Evaluated
from trainer.online.learners.images import ImageLearner, restore_images
from trainer.online.learners.ppo import OnlineLearner

NAME = re.compile(r"model_step_(\d{10})\.pt")
_REPLAY = re.compile(r"replay_step_\d{10}\.npz")
_ENVIRONMENTS = "ground"  #: its key in checkpoints, so that older ones can be resumed


@dataclass(slots=True)
class RunProgress:
    """The progress of a run. With the weights, a resumed run needs nothing else: random numbers are derived from it."""

    steps: int = 0  #: agent steps
    iteration: int = 0  #: batches
    seconds: float = 0.0  #: of training, including earlier starts
    evaluated: int = 0  #: steps at the last evaluation
    last: float | None = None  #: mean return of the last evaluation
    has_reached_goal: bool = False  #: the last evaluation's mean return is at least evaluation.stop_at
    reference: Evaluated | None = None  #: what new policies are compared with
    history: dict[str, list[float]] = field(default_factory=dict)  #: loss name to one value per batch
    kept: dict[str, float] = field(default_factory=dict)  #: checkpoint name to `last` at that time
    environments: dict[str, Any] = field(default_factory=dict)  #: `Environments.state`
    episodes: dict[str, Any] = field(default_factory=dict)  #: `Collector.state`; empty: new episodes start
    episodes_are_lost: bool = False  #: the uninterrupted run did not start new episodes here

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores under "online". The history is stored by the checkpoint itself."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        reference = None if self.reference is None else self.reference.state_dict()
        return state | {"reference": reference, _ENVIRONMENTS: self.environments}

    @classmethod
    def from_state_dict(
        cls, state: dict[str, Any], history: dict[str, list[float]], contract: PolicyContract
    ) -> RunProgress:
        """Return the progress that `state_dict` stored, perhaps that of an older version. Raises ModelError."""
        plain = {name: state[name] for name in _PLAIN if name in state}
        stored = state.get("reference")
        reference = None if stored is None else Evaluated.from_state_dict(stored, contract)
        return cls(**plain, reference=reference, environments=state[_ENVIRONMENTS], history=history)


_PLAIN = tuple(
    name for name in RunProgress.__dataclass_fields__ if name not in {"reference", "history", "environments"}
)


def checkpoint_of(learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Checkpoint:
    """Return a checkpoint of the learner's present state."""
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
        critics_state=learner.critics_state(),
        history=progress.history,
        probe_observations=probe[:PROBE_SIZE],
    )


def document_of(learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> dict[str, Any]:
    """Return the dict of a checkpoint, of vectors or of images."""
    online = {"online": progress.state_dict()}
    if not isinstance(learner, ImageLearner):
        return checkpoint_of(learner, progress, probe).document() | online
    is_continuous = isinstance(learner.contract.action_space, ContinuousActions)
    document = image_document(
        state=copy_of_state(learner.network),
        optimizer=copy_tensors(learner.optimizer_state()),
        history=progress.history,
        image=learner.image,
        hidden=learner.settings.train.hidden_sizes[0],
        action_kind="continuous" if is_continuous else "discrete",
        space=learner.contract.action_space,
    )
    own = {"normalisers": learner.normalisers.state_dict(), "policy_trained": learner.trained}
    return document | own | online


class CheckpointManager:
    """The folder of checkpoints. Every file in it is complete."""

    def __init__(self, folder: Path, *, keep_newest: int, keep_best: int) -> None:
        self.folder = folder
        self._newest, self._best = keep_newest, keep_best

    def save(self, learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Path:
        """Save the checkpoint of this step, then remove old ones."""
        path = self.folder / f"model_step_{progress.steps:010d}.pt"
        progress.kept[path.name] = float("-inf") if progress.last is None else progress.last
        for name in names_to_remove(progress.kept, newest=self._newest, best=self._best):
            del progress.kept[name]
        learner.save_history(history_path(path))  # first: a checkpoint that exists has its experiences
        self._write(path, learner, progress, probe)
        for old in self.folder.glob("replay_step_*.npz"):
            if _REPLAY.fullmatch(old.name) and old != history_path(path):
                with contextlib.suppress(OSError):
                    unlink_with_retries(old)
        for old in self.folder.glob("model_step_*.pt"):
            if NAME.fullmatch(old.name) and old.name not in progress.kept:  # not a copy that a user made
                with contextlib.suppress(OSError):  # another program has it open: a later save removes it
                    unlink_with_retries(_normaliser_path(old))
                    unlink_with_retries(old)
        return path

    def save_as(self, name: str, learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> Path:
        """Save a checkpoint and its model JSON under a name: best_model, final_model. Return the file to use.

        A policy for images has no model JSON, because engines do not run convolutions.
        """
        path = self.folder / f"{name}.pt"
        self._write(path, learner, progress, probe)
        if isinstance(learner, ImageLearner):
            return path
        model = export(checkpoint_of(learner, progress, probe), policy_version=progress.iteration, score=None)
        write_atomic(path.with_suffix(".json"), model)
        return path.with_suffix(".json")

    def _write(self, path: Path, learner: OnlineLearner, progress: RunProgress, probe: torch.Tensor) -> None:
        document = document_of(learner, progress, probe)
        if not tensors_are_finite([document["policy_state_dict"], document.get("critics", {})]):
            raise HotlapError(
                "the policy contains weights that are not finite",
                hint="lower train.learning_rate, then continue from the last checkpoint with --resume",
                code="E_DIVERGED",
            )
        write_atomic(_normaliser_path(path), normaliser_json(learner.normalisers))
        write_atomic(path, document_bytes(document))

    def newest(self) -> tuple[Path | None, list[str]]:
        """Return the newest checkpoint that can be read, if any, and a line for each newer one that cannot.

        Files are written atomically, so a checkpoint can be unreadable only if the disk lost data.
        """
        skipped: list[str] = []
        names = sorted(
            (path for path in self.folder.glob("model_step_*.pt") if NAME.fullmatch(path.name)), reverse=True
        )
        for path in names:
            try:
                load_document(read_with_retries(path, limit=MAX_MODEL_BYTES), path.name)
                return path, skipped
            except (HotlapError, OSError) as error:
                skipped.append(f"{path.name} is skipped: {error}")
        return None, skipped


def names_to_remove(kept: dict[str, float], *, newest: int, best: int) -> list[str]:
    """Return the checkpoints that are neither among the newest nor among those that evaluated best."""
    by_age = sorted(kept, reverse=True)
    by_score = sorted(kept, key=lambda name: (kept[name], name), reverse=True)
    stay = {*by_age[:newest], *by_score[:best]}
    return [name for name in by_age if name not in stay]


def history_path(path: Path) -> Path:
    """Return the file of the experiences that belong to a checkpoint `model_step_<n>.pt`."""
    return path.with_name(f"{path.stem.replace('model', 'replay')}.npz")


def _normaliser_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.normaliser.json")


def normaliser_json(normalisers: Normalisers) -> bytes:
    """Return the normaliser as JSON, with all digits."""
    observations, returns = normalisers.observations, normalisers.returns
    document = {
        "observations": {
            "mean": observations.mean_O.tolist(),
            "var": observations.var_O.tolist(),
            "count": observations.count,
        },
        "returns": returns.state_dict(),
    }
    return json.dumps(document, indent=1).encode()


def resume(path: Path, learner: OnlineLearner) -> tuple[RunProgress, torch.Tensor]:
    """Load a checkpoint into a new learner, and return its progress and probe. Raises ModelError or OSError."""
    document = load_document(read_with_retries(path, limit=MAX_MODEL_BYTES), path.name)
    if "online" not in document:
        raise ModelError(f"{path.name} is not a checkpoint of an online run", hint="start without --resume")
    if isinstance(learner, ImageLearner):
        restore_images(document, path.name, learner)
        history = history_of(document)
        return RunProgress.from_state_dict(document["online"], history, learner.contract), torch.zeros(0, 0)
    if is_image_document(document):
        raise ModelError(
            f"the observations of {path.name} are images, those of the environment are not",
            hint="restore the environment of that run, or start without --resume",
            code="E_CONTRACT",
        )
    checkpoint = checkpoint_from(document)
    differences = checkpoint.contract.differences(learner.contract)
    configured = list(learner.settings.train.hidden_sizes)
    if list(checkpoint.hidden_sizes) != configured:
        differences = (*differences, f"hidden sizes {configured} instead of {list(checkpoint.hidden_sizes)}")
    if differences:
        raise ModelError(
            f"the config does not fit {path.name}: it has {' and '.join(differences)}",
            hint="restore the config of that run, or start without --resume",
            code="E_CONTRACT",
        )
    learner.network.load_state_dict(checkpoint.policy_state_dict)
    learner.normalisers, learner.trained = checkpoint.normalisers, checkpoint.policy_trained
    learner.moments = dict(checkpoint.optimizer_state_dict.get("state", {}))
    learner.restore_critics(checkpoint.critics_state)
    learner.load_history(history_path(path))
    progress = RunProgress.from_state_dict(document["online"], checkpoint.training_history, checkpoint.contract)
    return progress, checkpoint.probe_observations
