"""The parent policy: the network, normalisers and optimizer state that training continues from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from schemas.errors import ContractError, ModelError
from schemas.job import Job
from schemas.model import MAX_MODEL_BYTES, weights_checksum
from schemas.storage.files import read_with_retries, sha256_of
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document, tensors_are_finite
from trainer.checkpoints.export import model_of
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.networks.network import Network, Shape, build_network
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, rescale_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The parent policy of one job.

    The fields are fixed, but the network is not copied: `rescale_and_build` changes its weights, and training then
    continues on the same object. Until then it computes the parent's function with the parent's `normalisers`.
    """

    network: Network
    normalisers: Normalisers
    optimizer_state: dict[str, Any]  #: Adam's state by parameter index; empty = none yet
    trained: bool  #: false: the policy is untrained, so new normalisers may change its function
    may_wait: bool  #: an engine will load this cycle's model, so rollouts of a published model will follow
    checksum: str  #: of the parent's exported weights; empty without a parent
    critics_state: dict[str, Any] = field(default_factory=dict)  #: of critics that only the trainer has; {} = none


def open_parent(job: Job, notices: Notices, cache: PrefetchCache) -> Parent:
    """Return the parent, or a new network. Raises ModelError, ContractError, ConfigError or OSError."""
    prefetched: Parent | None = cache.pop(_key(job))
    return prefetched or _open(job, notices)


def prefetch_parent(job: Job, cache: PrefetchCache) -> Parent:
    """Load the parent before the job arrives. Keep it only if its file is known by hash and causes no notice."""
    reporter = MemoryReporter()
    parent: Parent = cache.get(_key(job)) or _open(job, Notices(reporter))
    if job.parent_sha256 and not reporter.events:
        cache.put(_key(job), parent)
    return parent


def _key(job: Job) -> tuple[object, ...]:
    settings = job.settings
    shape = (job.contract, job.hidden_sizes, settings.network, settings.seed)
    return "parent", job.parent_sha256, job.fresh_statistics, shape


def _open(job: Job, notices: Notices) -> Parent:
    shape = Shape.of(job.contract, job.hidden_sizes)
    network = build_network(shape, custom=job.settings.network, seed=job.settings.seed)
    checkpoint = read_checkpoint(Path(job.parent), job) if job.parent is not None else None
    if checkpoint is None or not checkpoint.policy_trained:
        return Parent(
            network=network,
            normalisers=Normalisers.identity(shape.observation_size),
            optimizer_state={},
            trained=False,
            may_wait=checkpoint is not None and checkpoint.lineage.epoch == 0,
            checksum="",
        )
    load_weights(network, checkpoint, job.settings.network)
    optimizer_state = matching_state(checkpoint, network)
    if not optimizer_state and checkpoint.optimizer_state_dict:
        notices.send("W_OPTIMIZER", "the parent's optimizer state cannot be used: the optimizer starts from scratch")
    if job.fresh_statistics:
        return _without_statistics(network, checkpoint)
    return Parent(
        network=network,
        normalisers=checkpoint.normalisers,
        optimizer_state=optimizer_state,
        trained=True,
        may_wait=False,
        checksum=weights_checksum(model_of(checkpoint, policy_version=0)),
        critics_state=checkpoint.critics_state,
    )


@torch.no_grad()
def _without_statistics(network: Network, checkpoint: Checkpoint) -> Parent:
    """Return a parent with the policy of a checkpoint, and with nothing else that earlier cycles have learned."""
    size = checkpoint.contract.observation_size
    rescale_inputs(network.stacks(), checkpoint.normalisers.observations, ObservationNormaliser.identity(size))
    head = network.stacks().value[-1]
    head.weight.zero_()
    head.bias.zero_()
    checksum = weights_checksum(model_of(checkpoint, policy_version=0))
    return Parent(
        network=network,
        normalisers=Normalisers.identity(size),
        optimizer_state={},
        trained=True,
        may_wait=False,
        checksum=checksum,
    )


def read_checkpoint(path: Path, job: Job) -> Checkpoint:
    """Read a parent's checkpoint and check it against the job: hash, contract, hidden sizes.

    Raises ModelError, ContractError or OSError.
    """
    try:
        data = read_with_retries(path, limit=MAX_MODEL_BYTES)
    except FileNotFoundError:
        hint = "publish another epoch: `hotlap publish --epoch K`"
        raise ModelError(f"{path.name} does not exist any more", hint=hint, code="E_PARENT") from None
    if job.parent_sha256 and sha256_of(data) != job.parent_sha256:
        raise ModelError(
            f"{path.name} is not the file that was published",
            hint="publish another epoch: `hotlap publish --epoch K`",
            code="E_PARENT",
        )
    checkpoint = checkpoint_from(load_document(data, path.name), job.contract)
    if not checkpoint.contract.has_outputs_of(job.contract):
        differences = checkpoint.contract.differences(job.contract)
        raise ContractError(f"the data has {' and '.join(differences)} of {path.name}", hint="use a new project folder")
    if checkpoint.hidden_sizes != job.hidden_sizes:
        raise ContractError(
            f"{path.name} has hidden layers {list(checkpoint.hidden_sizes)}, the project {list(job.hidden_sizes)}",
            hint="restore the old hidden_sizes, or use a new project folder",
        )
    if not (checkpoint.is_finite() and checkpoint.normalisers.are_usable()):
        raise ModelError(
            f"{path.name} contains weights or normalisers that are not finite",
            hint="publish another epoch: `hotlap publish --epoch K`",
            code="E_PARENT",
        )
    return checkpoint


def load_weights(network: Network, checkpoint: Checkpoint, custom: str) -> None:
    """Load a checkpoint's weights into the network; a state dict with other names is loaded layer by layer.

    `custom` is the setting trainer.network. Raises ContractError if the classes of network and checkpoint differ.
    """
    try:
        network.load_state_dict(checkpoint.policy_state_dict)
    except RuntimeError:
        if custom or checkpoint.network_class:
            raise ContractError(
                f"the model was trained with {checkpoint.network_class or 'the built-in network'}, "
                f"the settings name {custom or 'the built-in network'}",
                hint="restore the old trainer.network, or use a new project folder",
            ) from None
        _load_layers(network, checkpoint)


@torch.no_grad()
def _load_layers(network: Network, checkpoint: Checkpoint) -> None:
    stacks = network.stacks()
    for stack, layers in ((stacks.policy, checkpoint.policy_layers), (stacks.value, checkpoint.value_layers)):
        for layer, (weight, bias) in zip(stack, layers, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    if network.action_log_std.numel():
        network.action_log_std.copy_(checkpoint.action_log_std)
        network.clamp_log_std()


def matching_state(checkpoint: Checkpoint, network: Network) -> dict[str, Any]:
    """Return Adam's moments if they fit the parameters one by one and are finite, otherwise {}."""
    state = checkpoint.optimizer_state_dict.get("state", {})
    parameters = [p for p in network.parameters() if p.numel()]
    fits = len(state) == len(parameters) and all(
        isinstance(state.get(i), dict) and getattr(state[i].get("exp_avg"), "shape", None) == p.shape
        for i, p in enumerate(parameters)
    )
    return dict(state) if fits and tensors_are_finite(state) else {}
