"""Export a checkpoint to the model JSON: fold the normalisers into the layers, in float64, and add a probe."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from schemas.model import PROBE_SIZE, Dense, Lineage, Model, Probe, Stack, check_probe, model_to_bytes, read_model
from schemas.rollout.rollout import Float32
from trainer.checkpoints.checkpoint import Checkpoint
from trainer.checkpoints.layer_names import Layers
from trainer.checkpoints.policy import CheckpointPolicy
from trainer.common.rng import rng_for
from trainer.networks.normaliser import Normalisers


def fold(checkpoint: Checkpoint) -> tuple[Stack, Stack]:
    """Return both stacks as functions of raw observations and in reward units.

    W (x - m) / s + b = (W / s) x + (b - W (m / s)). The value head is multiplied by the returns' deviation, and their
    mean is added.
    """
    return fold_layers(checkpoint.policy_layers, checkpoint.value_layers, checkpoint.normalisers)


def fold_layers(policy_layers: Layers, value_layers: Layers, normalisers: Normalisers) -> tuple[Stack, Stack]:
    """Do what `fold` does, for layers that are not in a checkpoint."""
    observations, returns = normalisers.observations, normalisers.returns
    scale_O, mean_O = observations.scale_O, observations.mean_O
    policy = _double(policy_layers)
    value = _double(value_layers)
    for layers in (policy, value):
        weight, bias = layers[0]
        layers[0] = (weight / scale_O, bias - weight @ (mean_O / scale_O))
    weight, bias = value[-1]
    value[-1] = (weight * returns.std, bias * returns.std + returns.mean)
    return _stack(policy), _stack(value)


def _double(layers: Layers) -> list[tuple[Tensor, Tensor]]:
    return [(weight.double(), bias.double()) for weight, bias in layers]


def _stack(layers: list[tuple[Tensor, Tensor]]) -> Stack:
    dense = [Dense(weight.float().numpy(), bias.float().numpy()) for weight, bias in layers]
    return Stack(tuple(dense[:-1]), dense[-1])


def model_of(checkpoint: Checkpoint, *, policy_version: int, score: float | None = None) -> Model:
    """Return the model that an engine loads, with the outputs that the trainer computes as its probe."""
    policy, value_function = fold(checkpoint)
    trained = CheckpointPolicy(checkpoint)
    observations = checkpoint.probe_observations.numpy()
    if observations.shape != (len(observations), checkpoint.contract.observation_size) or not len(observations):
        observations = random_observations(checkpoint)
    return Model(
        contract=checkpoint.contract,
        policy=policy,
        value_function=value_function,
        action_log_std=checkpoint.action_log_std.numpy().astype(np.float32),
        policy_version=policy_version,
        probe=Probe(observations, trained.mean(observations), trained.value(observations)),
        lineage=Lineage(**{**checkpoint.lineage.model_dump(), "score": score}),
    )


def random_observations(checkpoint: Checkpoint) -> Float32:
    """Return random probe observations [p, O], for checkpoints without training data: version 0, other scripts."""
    size = checkpoint.contract.observation_size
    normaliser = checkpoint.normalisers.observations
    noise = torch.randn(PROBE_SIZE, size, generator=rng_for(0, "probe")).double()
    return (noise * normaliser.scale_O + normaliser.mean_O).float().numpy()


def export(checkpoint: Checkpoint, *, policy_version: int, score: float | None = None) -> bytes:
    """Return the model JSON's bytes, read back and checked against its probe. Raises ModelError."""
    data = model_to_bytes(model_of(checkpoint, policy_version=policy_version, score=score))
    check_probe(read_model(data))
    return data
