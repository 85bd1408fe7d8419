"""What a cycle starts from: the parent's network, normalisers and optimizer, or a fresh network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from schemas.errors import ContractError, ModelError
from schemas.job import Job
from schemas.model import MAX_MODEL_BYTES, weights_checksum
from schemas.storage.files import read_regular, sha256_of
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.checkpoints.export import model_of
from trainer.common.prefetch_cache import AHEAD
from trainer.common.reporting import MemoryReporter, Notices
from trainer.networks.network import Network, Shape, build_network
from trainer.networks.normaliser import Normalisers


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Where training begins."""

    network: Network
    normalisers: Normalisers
    optimizer_state: dict[str, Any]  #: Adam's state by parameter index; empty = none yet
    trained: bool  #: false: the policy has learned nothing, so units may change without keeping its function
    may_wait: bool  #: an engine will play this cycle's model: better data is on its way
    checksum: str  #: of the parent's exported weights; empty = no parent


def open_parent(job: Job, notices: Notices) -> Parent:
    """Load the parent, or make a fresh network. Raises ModelError, ContractError, ConfigError or OSError."""
    ahead = AHEAD.take(_key(job))
    return cast("Parent", ahead) if ahead is not None else _open(job, notices)


def prefetch_parent(job: Job) -> Parent:
    """Load the parent before the job has come, and remember it where there is nothing to say about it."""
    said = MemoryReporter()
    start = AHEAD.get(_key(job)) or _open(job, Notices(said))
    if job.parent_sha256 and not said.events:
        AHEAD.put(_key(job), start)
    return start


def _key(job: Job) -> tuple[object, ...]:
    return "start", job.parent_sha256, job.contract, job.hidden_sizes, job.settings.network, job.settings.seed


def _open(job: Job, notices: Notices) -> Parent:
    shape = Shape.of(job.contract, job.hidden_sizes)
    network = build_network(shape, custom=job.settings.network, seed=job.settings.seed)
    parent = read_checkpoint(Path(job.parent), job) if job.parent is not None else None
    if parent is None or not parent.policy_trained:
        return Parent(
            network=network,
            normalisers=Normalisers.identity(shape.observation_size),
            optimizer_state={},
            trained=False,
            may_wait=parent is not None and parent.lineage.epoch == 0,
            checksum="",
        )
    _fill(network, parent, job)
    optimizer_state = _matching_state(parent, network)
    if not optimizer_state:
        notices.say("W_OPTIMIZER", "the parent's optimizer state does not fit and begins anew")
    checksum = weights_checksum(model_of(parent, policy_version=0))
    return Parent(
        network=network,
        normalisers=parent.normalisers,
        optimizer_state=optimizer_state,
        trained=True,
        may_wait=False,
        checksum=checksum,
    )


def read_checkpoint(path: Path, job: Job) -> Checkpoint:
    """Read a parent and hold it against the job: its hash, its contract, its sizes."""
    data = read_regular(path, limit=MAX_MODEL_BYTES)
    if job.parent_sha256 and sha256_of(data) != job.parent_sha256:
        raise ModelError(
            f"{path.name} is not the file that was published", hint="publish another epoch", code="E_PARENT"
        )
    parent = checkpoint_from(load_document(data, path.name), job.contract)
    differences = parent.contract.differences(job.contract)
    if differences:
        raise ContractError(f"the data has {' and '.join(differences)} of {path.name}", hint="use a new project folder")
    if parent.hidden_sizes != job.hidden_sizes:
        raise ContractError(
            f"{path.name} has hidden layers {list(parent.hidden_sizes)}, the project {list(job.hidden_sizes)}",
            hint="set hidden_sizes back, or use a new project folder",
        )
    if not parent.is_finite():
        raise ModelError(
            f"{path.name} holds weights that are not finite", hint="publish another epoch", code="E_PARENT"
        )
    return parent


def _fill(network: Network, parent: Checkpoint, job: Job) -> None:
    """Load the parent's weights into the network; a foreign state dict goes in by its plain layers."""
    try:
        network.load_state_dict(parent.policy_state_dict)
    except RuntimeError:
        if job.settings.network or parent.network_class:
            raise ContractError(
                f"the parent was trained with {parent.network_class or 'the built-in network'}, "
                f"the settings say {job.settings.network or 'the built-in network'}",
                hint="set trainer.network back, or use a new project folder",
            ) from None
        _fill_layers(network, parent)


@torch.no_grad()
def _fill_layers(network: Network, parent: Checkpoint) -> None:
    stacks = network.stacks()
    for stack, layers in ((stacks.policy, parent.policy_layers), (stacks.value, parent.value_layers)):
        for layer, (weight, bias) in zip(stack, layers, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    if network.action_log_std.numel():
        network.action_log_std.copy_(parent.action_log_std)
        network.clamp_log_std()


def _matching_state(parent: Checkpoint, network: Network) -> dict[str, Any]:
    """Return Adam's moments where they fit the parameters one by one; else nothing."""
    state = parent.optimizer_state_dict.get("state", {})
    parameters = [p for p in network.parameters() if p.numel()]
    fits = len(state) == len(parameters) and all(
        isinstance(state.get(i), dict) and getattr(state[i].get("exp_avg"), "shape", None) == p.shape
        for i, p in enumerate(parameters)
    )
    return dict(state) if fits else {}
