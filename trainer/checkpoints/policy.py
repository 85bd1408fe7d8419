"""Trained policies in Python: `load_policy` loads checkpoints and model JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from schemas.errors import ModelError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.rollout.rollout import Float32
from schemas.storage.files import read_with_retries
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.checkpoints.image_checkpoint import ImageCheckpointPolicy, is_image_document
from trainer.checkpoints.layer_names import Layers
from trainer.networks.distributions import distribution_for


class LoadedPolicy(Protocol):
    """A policy from a file of either kind. Observations are raw, float32 [n, O]; those of images uint8."""

    def mean(self, observations: Float32) -> Float32:
        """Return the mean actions [n, A] in [-1, 1], or the logits of a discrete policy."""

    def value(self, observations: Float32) -> Float32:
        """Return the values [n] in the game's own reward units."""


class CheckpointPolicy:
    """A checkpoint's policy as the trainer computes it, with its normalisers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._distribution = distribution_for(checkpoint.contract.action_space)

    @torch.no_grad()
    def mean(self, observations: Float32) -> Float32:
        """Return the mean actions [n, A], or the logits of a discrete policy."""
        output_BK = _run(self._checkpoint.policy_layers, self._normalised(observations))
        return self._distribution.mean(output_BK).numpy()

    @torch.no_grad()
    def value(self, observations: Float32) -> Float32:
        """Return the values [n] in reward units."""
        value_B = _run(self._checkpoint.value_layers, self._normalised(observations)).squeeze(1)
        returns = self._checkpoint.normalisers.returns
        return (value_B.double() * returns.std + returns.mean).float().numpy()

    def _normalised(self, observations: Float32) -> Tensor:
        return self._checkpoint.normalisers.observations(observations)


def _run(layers: Layers, x: Tensor) -> Tensor:
    for weight, bias in layers[:-1]:
        x = torch.relu(torch.nn.functional.linear(x, weight, bias))
    return torch.nn.functional.linear(x, *layers[-1])


def load_policy(path: str | Path) -> LoadedPolicy:
    """Load a checkpoint (`.pt`, `.pth`) or a model JSON. Raises ModelError or OSError."""
    path = Path(path)
    data = read_with_retries(path, limit=MAX_MODEL_BYTES)
    if path.suffix.lower() == ".json":
        return read_model(data)
    if path.suffix.lower() in (".pt", ".pth"):
        document = load_document(data, path.name)
        if is_image_document(document):
            return ImageCheckpointPolicy(document, path.name)
        return CheckpointPolicy(checkpoint_from(document))
    raise ModelError(f"{path.name} is neither .pt, .pth nor .json", hint="pass a checkpoint or a model JSON")
