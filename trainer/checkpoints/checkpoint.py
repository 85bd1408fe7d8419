"""Checkpoints: a dict of tensors and plain values, always loaded with `weights_only=True`.

A checkpoint of another script can be ranked if it has `policy_state_dict`, `optimizer_state_dict` and
`training_history`. If its layers have the names of the model JSON, it can also be exported.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ModelError
from schemas.job import Job, config_hash
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, Lineage
from trainer.checkpoints.layer_names import Layers, layers_of
from trainer.checkpoints.tensor_copy import copy_tensors
from trainer.common.exit_codes import is_out_of_memory
from trainer.networks.network import Network, Stacks
from trainer.networks.normaliser import Normalisers

FORMAT = "hotlap.checkpoint/1"
NAME = re.compile(r"model_epoch_(0|[1-9]\d{0,8})\.pt")
_VALUE_LOSSES = ("value_loss", "value_losses", "critic_loss", "critic_losses", "v_loss", "vf_loss", "val_loss", "loss")
_UNREADABLE = (
    pickle.UnpicklingError, struct.error, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, OverflowError
)  # fmt: skip
"""Exceptions of torch for a damaged file; they depend on which parts are damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state that training continues from, and that is exported."""

    policy_state_dict: dict[str, Tensor]
    optimizer_state_dict: dict[str, Any]
    training_history: dict[str, list[float]]
    normalisers: Normalisers
    contract: PolicyContract
    hidden_sizes: tuple[int, ...]
    policy_layers: Layers
    value_layers: Layers
    action_log_std: Tensor
    lineage: Lineage
    policy_trained: bool  #: false if no cycle has updated the policy yet
    network_class: str = ""  #: for messages only; a class is never imported because a checkpoint names it
    probe_observations: Tensor = field(default_factory=lambda: torch.zeros(0, 0))  #: float32 [p, O], raw
    critics_state: dict[str, Any] = field(default_factory=dict)  #: of critics that only the trainer has; {} = none

    @classmethod
    def of(
        cls,
        network: Network,
        *,
        normalisers: Normalisers,
        contract: PolicyContract,
        hidden_sizes: tuple[int, ...],
        lineage: Lineage,
        policy_trained: bool,
        optimizer_state: Mapping[str, Any] | None = None,
        history: Mapping[str, list[float]] | None = None,
        network_class: str = "",
        probe_observations: Tensor | None = None,
        critics_state: Mapping[str, Any] | None = None,
    ) -> Checkpoint:
        """Return the checkpoint of a network as it is now. Weights and optimizer state are copied to the CPU."""
        state, policy_layers, value_layers = copy_weights(network)
        return cls(
            policy_state_dict=state,
            optimizer_state_dict=copy_tensors(optimizer_state or {}),
            training_history={name: list(values) for name, values in (history or {}).items()},
            normalisers=normalisers,
            contract=contract,
            hidden_sizes=hidden_sizes,
            policy_layers=policy_layers,
            value_layers=value_layers,
            action_log_std=network.action_log_std.detach().cpu().clone(),
            lineage=lineage,
            policy_trained=policy_trained,
            network_class=network_class,
            probe_observations=torch.zeros(0, 0) if probe_observations is None else probe_observations,
            critics_state=copy_tensors(critics_state or {}),
        )

    def document(self) -> dict[str, Any]:
        """Return the dict that is written to the file: tensors and plain values."""
        return {
            "format": FORMAT,
            "policy_state_dict": self.policy_state_dict,
            "optimizer_state_dict": self.optimizer_state_dict,
            "training_history": self.training_history,
            "normalisers": self.normalisers.state_dict(),
            "contract": self.contract.model_dump(mode="json"),
            "hidden_sizes": list(self.hidden_sizes),
            "stacks": {"policy": [list(p) for p in self.policy_layers], "value": [list(p) for p in self.value_layers]},
            "action_log_std": self.action_log_std,
            "lineage": self.lineage.document(),
            "policy_trained": self.policy_trained,
            "network": self.network_class,
            "probe_observations": self.probe_observations,
            "critics": self.critics_state,
        }

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return document_bytes(self.document())

    @property
    def size_bytes(self) -> int:
        """Return the approximate size in memory: weights, Adam's two moments of them, critics."""
        return 3 * sum(tensor.nbytes for tensor in self.policy_state_dict.values()) + bytes_of(self.critics_state)

    def is_finite(self) -> bool:
        """Return whether every weight is finite, those of the critics too."""
        return tensors_are_finite(self.policy_state_dict) and tensors_are_finite(self.critics_state)


def document_bytes(document: dict[str, Any]) -> bytes:
    """Return the file's content for a checkpoint's dict, which may have more keys than `Checkpoint.document`."""
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()


def read_document(data: bytes, name: str) -> dict[str, Any]:
    """Load the dict in a file of torch; {} if it contains something else. Raises ModelError (E_CHECKPOINT)."""
    try:
        document = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "Weights only load failed" in reason:  # torch then describes how to load it anyway
            reason = "it contains Python objects, and loading them could run code"
        raise ModelError(
            f"{name} cannot be loaded: {reason}", hint="save only tensors and plain values", code="E_CHECKPOINT"
        ) from None
    return document if isinstance(document, dict) else {}


def load_document(data: bytes, name: str = "the checkpoint") -> dict[str, Any]:
    """Load a checkpoint's dict, of Hotlap or any with the three keys. Raises ModelError (E_CHECKPOINT)."""
    known = read_document(data, name)
    missing = [key for key in ("policy_state_dict", "optimizer_state_dict", "training_history") if key not in known]
    if missing:
        raise ModelError(
            f"{name} does not contain {', '.join(missing)}", hint="see `hotlap docs formats`", code="E_CHECKPOINT"
        )
    return known


def checkpoint_from(document: dict[str, Any], contract: PolicyContract | None = None) -> Checkpoint:
    """Return a checkpoint from a loaded dict. One of another script needs the layer names of the model JSON.

    Raises ModelError.
    """
    if document.get("format") == FORMAT:
        return _from_hotlap_document(document)
    state = {str(name): tensor for name, tensor in document["policy_state_dict"].items() if isinstance(tensor, Tensor)}
    policy, value, log_std = layers_of(state)
    inputs, outputs = policy[0][0].shape[1], policy[-1][0].shape[0]
    contract = contract or PolicyContract(observation_size=inputs, action_space=_default_actions(outputs))
    if (contract.observation_size, contract.action_space.output_size) != (inputs, outputs):
        raise ModelError(
            f"the checkpoint has {inputs} inputs and {outputs} outputs, the project {contract.observation_size} and "
            f"{contract.action_space.output_size}",
            hint="train on this project's rollouts",
            code="E_CONTRACT",
        )
    return Checkpoint(
        policy_state_dict=state,
        optimizer_state_dict={},
        training_history=history_of(document),
        normalisers=Normalisers.identity(inputs),
        contract=contract,
        hidden_sizes=tuple(len(bias) for _, bias in policy[:-1]),
        policy_layers=policy,
        value_layers=value,
        action_log_std=log_std.clamp(LOG_STD_MIN, LOG_STD_MAX),
        lineage=Lineage(cycle=0, epoch=max(1, int(document.get("epoch") or 1))),
        policy_trained=True,
    )


def _from_hotlap_document(document: dict[str, Any]) -> Checkpoint:
    try:
        return Checkpoint(
            policy_state_dict=document["policy_state_dict"],
            optimizer_state_dict=document["optimizer_state_dict"],
            training_history=history_of(document),
            normalisers=Normalisers.from_state_dict(document["normalisers"]),
            contract=PolicyContract.from_json_value(document["contract"]),
            hidden_sizes=tuple(document["hidden_sizes"]),
            policy_layers=tuple((w, b) for w, b in document["stacks"]["policy"]),
            value_layers=tuple((w, b) for w, b in document["stacks"]["value"]),
            action_log_std=document["action_log_std"],
            lineage=Lineage.from_json_value(document["lineage"]),
            policy_trained=document["policy_trained"],
            network_class=document["network"],
            probe_observations=document["probe_observations"],
            critics_state=critics if isinstance(critics := document.get("critics"), dict) else {},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the checkpoint is incomplete: {type(error).__name__}: {error}", hint="train again", code="E_CHECKPOINT"
        ) from None


def _default_actions(outputs: int) -> ContinuousActions:
    names = ("steer", "throttle", "brake") if outputs == 3 else tuple(f"action_{i}" for i in range(outputs))
    return ContinuousActions.named(names)


def history_of(document: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the lists of numbers in a training history. Everything else in it is left out."""
    history = document["training_history"]
    if not isinstance(history, Mapping):
        return {}
    return {
        str(name): [float(x) for x in values]
        for name, values in history.items()
        if isinstance(values, (list, tuple)) and all(isinstance(x, (int, float)) for x in values)
    }


def value_losses_of(history: Mapping[str, list[float]]) -> list[float]:
    """Return the value losses under the first of their usual names that exists; empty if none does."""
    return next((history[name] for name in _VALUE_LOSSES if name in history), [])


def standard_error_of(history: Mapping[str, list[float]]) -> float:
    """Return the standard error of the last value loss; 0 if it is not recorded."""
    return (history.get("value_loss_error") or [0.0])[-1]


def tensors_are_finite(state: Any) -> bool:
    """Return whether every number in nested dicts, lists and tensors is finite."""
    if isinstance(state, Tensor):
        return not state.is_floating_point() or _is_finite(state)
    if isinstance(state, Mapping):
        return all(tensors_are_finite(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return all(tensors_are_finite(value) for value in state)
    return not isinstance(state, float) or math.isfinite(state)


def bytes_of(state: Any) -> int:
    """Return the size of the tensors in nested dicts."""
    if isinstance(state, Mapping):
        return sum(map(bytes_of, state.values()))
    return state.nbytes if isinstance(state, Tensor) else 0


def _is_finite(tensor: Tensor) -> bool:
    # A number that is not finite makes the sum not finite. A sum can also overflow; only then check each number.
    return math.isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())


def copy_weights(network: Network) -> tuple[dict[str, Tensor], Layers, Layers]:
    """Return copies of a network's state dict and both stacks on the CPU. A tensor in both is copied and saved once."""
    stacks: Stacks = network.stacks()
    layers = [tuple((layer.weight, layer.bias) for layer in stack) for stack in (stacks.policy, stacks.value)]
    state, policy, value = copy_tensors((dict(network.state_dict()), *layers))
    return state, policy, value


def lineage_of(job: Job, epoch: int) -> Lineage:
    """Return the lineage of a model that this job creates."""
    parent = None
    if job.parent is not None:
        path = Path(job.parent)
        folder = f"{path.parent.name}/" if path.parent.name.startswith("cycle_") else ""
        parent = f"{folder}{path.stem}.json"
    return Lineage(
        cycle=job.policy_version,
        epoch=epoch,
        parent=parent,
        rollouts=tuple(r.sha256 for r in job.rollouts if r.is_new),
        config_hash=config_hash(job.settings),
        seed=job.settings.seed,
        versions={"torch": torch.__version__},
    )
