"""Adopts a trained model: reads a file of any supported kind, checks it, and returns it as a checkpoint of Hotlap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract
from schemas.errors import ContractError, ModelError
from schemas.job import Adoption, Job, LogStdForm
from schemas.model import Lineage, Stack
from schemas.settings.models import TrainerSettings
from trainer.checkpoints.adopted_json import numbers, read_any_json, require_relu
from trainer.checkpoints.checkpoint import FORMAT, Checkpoint, checkpoint_from, read_document, tensors_are_finite
from trainer.checkpoints.image_checkpoint import is_image_document
from trainer.checkpoints.layer_names import Layers
from trainer.checkpoints.parent import load_weights, matching_state
from trainer.networks.network import Shape, build_network
from trainer.networks.normaliser import Normalisers

_EPOCH = re.compile(r"model_epoch_(\d+)\.\w+", re.IGNORECASE)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HINT = "name a model JSON or a checkpoint (.pt, .pth): see `hotlap docs formats`"
_CONTRACT_HINT = "adopt a model of this project's agents, correct [agent] in daemon.toml, or use another --project"
_STATE_KEYS = ("policy_state_dict", "model_state_dict", "state_dict")


@dataclass(frozen=True, slots=True)
class ReadModel:
    """The model in a file, before it is compared with a project."""

    checkpoint: Checkpoint
    names_actions: bool  #: whether the file has the names, the order and the bounds of the actions
    notes: tuple[str, ...]


def read_trained_model(
    data: bytes,
    name: str,
    *,
    contract: PolicyContract | None,
    usual: ActionSpace | None = None,
    form: LogStdForm = "auto",
    contract_hint: str,
) -> ReadModel:
    """Return the model in a checkpoint or a model JSON. Raises ModelError with one line that names the file.

    `contract` names the actions of a file that does not name them itself; it must have its shape. Without a contract,
    they are the `usual` ones, if it has as many.
    """
    begin = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:2]
    if begin[:1] == b"{" or begin in _UTF16_MARKS:
        read = _read_json(data, name, form)
    elif begin == b"PK" or begin[:1] == b"\x80":
        read = _read_checkpoint(data, name)
    else:
        raise _refusal(name, "it is neither a model JSON nor a checkpoint of torch")
    checkpoint = read.checkpoint
    for kind, layers in (("policy", checkpoint.policy_layers), ("value", checkpoint.value_layers)):
        if not tensors_are_finite(layers):
            raise _refusal(name, f"a weight of its {kind} layers is not finite", code="E_NONFINITE")
    if not tensors_are_finite(checkpoint.action_log_std):
        raise _refusal(name, "a deviation of its actions is not finite", code="E_NONFINITE")
    value_sizes = tuple(len(bias) for _, bias in checkpoint.value_layers)
    if value_sizes != (*checkpoint.hidden_sizes, 1):
        raise _refusal(
            name,
            f"its value layers have the sizes {list(value_sizes)}, but must have {[*checkpoint.hidden_sizes, 1]}",
            hint="engines run two stacks with the same hidden layers",
        )
    if read.names_actions:
        return read
    found = checkpoint.contract
    if usual is not None and usual.output_size == found.action_space.output_size:
        found = PolicyContract(observation_size=found.observation_size, action_space=usual)
    return _with_names(read, contract or found, name, contract_hint)


def adopt(adoption: Adoption, data: bytes, job: Job) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the checkpoint of the adopted model, which training continues from, and lines that describe it.

    Raises ModelError or ContractError if it does not fit the project.
    """
    name = Path(adoption.file).name
    fixed = job.contract if adoption.is_contract_fixed else None
    usual = job.contract.action_space
    read = read_trained_model(
        data, name, contract=fixed, usual=usual, form=adoption.log_std, contract_hint=_CONTRACT_HINT
    )
    found = read.checkpoint
    if fixed is not None and (differences := fixed.differences(found.contract)):
        raise ContractError(
            f"{name} has {' and '.join(differences)}",
            hint=_CONTRACT_HINT,
        )
    if adoption.are_hidden_sizes_fixed and found.hidden_sizes != job.hidden_sizes:
        raise ContractError(
            f"{name} has hidden layers {list(found.hidden_sizes)}, the project {list(job.hidden_sizes)}",
            hint=f"set agent.hidden_sizes = {list(found.hidden_sizes)} in daemon.toml, or use another --project if a"
            " model was published already: engines cannot load another shape",
        )
    match = _EPOCH.fullmatch(name)
    lineage = Lineage(
        cycle=job.policy_version,
        epoch=max(1, int(match[1])) if match else 1,
        seed=job.settings.seed,
        versions={"torch": torch.__version__},
        adopted=f"{name} {adoption.sha256}",
    )
    checkpoint, notes = into_network(found, job.settings, lineage)
    return checkpoint, (read.notes[0], *_description(checkpoint), *read.notes[1:], *notes)


def into_network(found: Checkpoint, settings: TrainerSettings, lineage: Lineage) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return a checkpoint of the project's network class with a model's weights, and its optimizer state if it fits."""
    shape = Shape.of(found.contract, found.hidden_sizes)
    network = build_network(shape, custom=settings.network, seed=settings.seed)
    load_weights(network, found, settings.network)
    moments = matching_state(found, network)
    note = "optimizer and normaliser continue" if moments else "the optimizer starts from scratch"
    return Checkpoint.of(
        network,
        normalisers=found.normalisers,
        contract=found.contract,
        hidden_sizes=found.hidden_sizes,
        lineage=lineage,
        policy_trained=found.policy_trained,
        optimizer_state={**found.optimizer_state_dict, "state": moments} if moments else {},
        history=found.training_history,
        network_class=settings.network,
        probe_observations=found.probe_observations,
    ), (note,)


def _refusal(name: str, reason: str, *, hint: str = "", code: str | None = None) -> ModelError:
    return ModelError(f"{name} cannot be adopted: {reason}", hint=hint or _HINT, code=code)


def _read_json(data: bytes, name: str, form: LogStdForm) -> ReadModel:
    read = read_any_json(data, name, form)
    model = read.model
    probe = torch.zeros(0, 0) if model.probe is None else torch.from_numpy(model.probe.observations)
    layers = {"policy": _layers(model.policy), "value": _layers(model.value_function)}
    checkpoint = Checkpoint(
        policy_state_dict={"action_log_std": torch.from_numpy(model.action_log_std)},
        optimizer_state_dict={},
        training_history={},
        normalisers=Normalisers.identity(model.contract.observation_size),
        contract=model.contract,
        hidden_sizes=model.hidden_sizes,
        policy_layers=layers["policy"],
        value_layers=layers["value"],
        action_log_std=torch.from_numpy(model.action_log_std),
        lineage=model.lineage,
        policy_trained=True,
        probe_observations=probe,
    )
    kind = "a model JSON of Hotlap" if read.is_own else "a model JSON of another program"
    return ReadModel(checkpoint, read.names_actions, (f"{name} is {kind}", *read.notes))


def _layers(stack: Stack) -> Layers:
    return tuple((torch.from_numpy(np.array(d.weights)), torch.from_numpy(np.array(d.biases))) for d in stack.layers())


def _read_checkpoint(data: bytes, name: str) -> ReadModel:
    """Return the model in a checkpoint of Hotlap, or of another script if its layers have known names."""
    document = read_document(data, name)
    if document.get("format") == FORMAT:
        return ReadModel(_named_in(name, document), True, (f"{name} is a checkpoint of Hotlap",))
    if is_image_document(document):
        raise _refusal(name, "it is a policy for images, which engines cannot run", hint="adopt a policy for vectors")
    _require_relu_in(document, name)
    state = next((document[key] for key in _STATE_KEYS if isinstance(document.get(key), Mapping)), document)
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise _refusal(name, "it contains no weights", hint="save policy_state_dict in it", code="E_CHECKPOINT")
    known = {"policy_state_dict": state, "training_history": document.get("training_history", {})}
    checkpoint = _named_in(name, known)
    note = "it does not name an activation: ReLU is assumed, which the engine runs"
    return ReadModel(checkpoint, False, (f"{name} is a checkpoint of another script", note))


def _named_in(name: str, document: dict[str, Any]) -> Checkpoint:
    try:
        return checkpoint_from(document)
    except ModelError as error:
        raise _refusal(name, error.message, hint=error.hint, code=error.code) from None


def _require_relu_in(document: Mapping[Any, Any], name: str) -> None:
    for key, value in document.items():
        if isinstance(value, Mapping) and key not in _STATE_KEYS:
            _require_relu_in(value, name)
        else:
            require_relu(str(key), value, name)


def _with_names(read: ReadModel, contract: PolicyContract, name: str, hint: str) -> ReadModel:
    """Return a model whose file does not name its actions, with the names of the project, if the sizes fit."""
    found, space = read.checkpoint, contract.action_space
    sizes = found.contract.observation_size, found.contract.action_space.output_size
    if sizes != (contract.observation_size, space.output_size):
        wanted = f"{contract.observation_size} and {space.output_size}"
        raise ContractError(f"{name} has {sizes[0]} observations and {sizes[1]} actions instead of {wanted}", hint=hint)
    log_std = found.action_log_std if isinstance(space, ContinuousActions) else torch.zeros(0)
    note = f"it does not name its actions: they are taken to be {space.in_words()}, in this order"
    checkpoint = replace(found, contract=contract, action_log_std=log_std)
    return ReadModel(checkpoint, True, (*read.notes, note))


def _description(checkpoint: Checkpoint) -> tuple[str, ...]:
    space = checkpoint.contract.action_space
    lines = [
        f"observations  {checkpoint.contract.observation_size}",
        f"actions       {space.in_words()}",
        f"hidden layers {', '.join(map(str, checkpoint.hidden_sizes))}",
    ]
    if isinstance(space, ContinuousActions):
        lines.append(f"deviation     {numbers(checkpoint.action_log_std.tolist())}")
    return tuple(lines)
