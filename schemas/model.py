"""The model JSON that engines load (Contract 3): reading, writing, and the engine's own arithmetic in numpy."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import Field, ValidationError

from schemas.base import StrictModel
from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ModelError

Float32 = npt.NDArray[np.float32]

SCHEMA_NAME = "hotlap.model/1"
PROBE_SIZE = 8
PROBE_TOLERANCE = 1e-4
"""Largest difference, relative to the size of the outputs, that float32 rounding may explain."""
LOG_STD_MIN = math.log(0.01)
LOG_STD_MAX = math.log(2.0)
LOG_STD_START = math.log(0.5)
NOISE_STD_MIN = 0.01
MAX_MODEL_BYTES = 512 * 1024 * 1024


class Lineage(StrictModel):
    """Where a model comes from."""

    cycle: int
    epoch: int
    parent: str | None = None  #: the model JSON that training went on from, relative to Models/
    rollouts: tuple[str, ...] = ()  #: SHA-256 of the new rollouts
    config_hash: str = ""
    seed: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Dense:
    """One layer, y = W x + b."""

    weights: Float32  #: [out, in]
    biases: Float32  #: [out]

    def __call__(self, x: Float32) -> Float32:
        """Return W x + b for each row of `x` [n, in]."""
        return x @ self.weights.T + self.biases


@dataclass(frozen=True, slots=True)
class Stack:
    """Hidden layers with ReLU after each, and a head."""

    hidden: tuple[Dense, ...]
    head: Dense

    def __call__(self, x: Float32) -> Float32:
        """Return the head's raw outputs for each row of `x` [n, in]."""
        for layer in self.hidden:
            x = np.maximum(layer(x), np.float32(0))
        return self.head(x)

    def layers(self) -> tuple[Dense, ...]:
        """All layers, the head last."""
        return (*self.hidden, self.head)


@dataclass(frozen=True, slots=True)
class Probe:
    """Observations with what the trainer computes for them: an importer checks itself after loading."""

    observations: Float32  #: [p, O]
    means: Float32  #: [p, A], the logits where the policy is discrete
    values: Float32  #: [p]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A policy and a value network as an engine runs them, with normalisation already folded in."""

    contract: PolicyContract
    policy: Stack
    value_function: Stack
    action_log_std: Float32  #: [A]; empty where the policy is discrete
    policy_version: int
    probe: Probe | None
    lineage: Lineage

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """The sizes of the hidden layers."""
        return tuple(len(layer.biases) for layer in self.policy.hidden)

    def mean(self, observations: Float32) -> Float32:
        """Return the mean action [n, A] in [-1, 1], or the raw logits of a discrete policy; observations [n, O]."""
        raw = self.policy(np.asarray(observations, dtype=np.float32))
        return np.tanh(raw) if isinstance(self.contract.action_space, ContinuousActions) else raw

    def value(self, observations: Float32) -> Float32:
        """Return the value [n] in the game's own reward units; observations [n, O]."""
        return self.value_function(np.asarray(observations, dtype=np.float32))[:, 0]


def model_to_bytes(model: Model) -> bytes:
    """Write a model as the engine's JSON. Raises ModelError where a number is not finite."""
    layers = (*model.policy.layers(), *model.value_function.layers())
    arrays = [model.action_log_std, *(a for layer in layers for a in (layer.weights, layer.biases))]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ModelError("the model holds a weight that is not finite", hint="lower learning_rate", code="E_NONFINITE")
    space = model.contract.action_space
    document: dict[str, Any] = {
        "network_config": {
            "input_size": model.contract.observation_size,
            "hidden_layers": list(model.hidden_sizes),
            "policy_output_size": space.output_size,
            "value_output_size": 1,
        },
        "policy_layers": [_layer(layer) for layer in model.policy.hidden],
        "value_layers": [_layer(layer) for layer in model.value_function.hidden],
        "policy_head": _layer(model.policy.head),
        "value_head": _layer(model.value_function.head),
        "action_log_std": model.action_log_std,
        "schema": SCHEMA_NAME,
        "policy_version": model.policy_version,
        "action_space": space.model_dump(mode="json"),
        "contract": model.contract.digest(),
        "checksum": weights_checksum(model),
        "lineage": model.lineage.model_dump(mode="json"),
    }
    if model.probe is not None:
        probe = model.probe
        document["probe"] = {"observations": probe.observations, "means": probe.means, "values": probe.values}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _layer(layer: Dense) -> dict[str, Float32]:
    return {"weights": np.ascontiguousarray(layer.weights).reshape(-1), "biases": np.ascontiguousarray(layer.biases)}


def weights_checksum(model: Model) -> str:
    """Return the SHA-256 over all weights as little-endian float32, in the order of the file."""
    digest = hashlib.sha256()
    for layer in (*model.policy.layers(), *model.value_function.layers()):
        digest.update(np.ascontiguousarray(layer.weights, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(layer.biases, dtype="<f4").tobytes())
    digest.update(np.ascontiguousarray(model.action_log_std, dtype="<f4").tobytes())
    return digest.hexdigest()


def read_model(data: bytes) -> Model:
    """Read a model JSON, ours or any that keeps to Contract 3's fixed keys. Raises ModelError."""
    try:
        document = orjson.loads(data)
        config = document["network_config"]
        sizes = [int(config["input_size"]), *map(int, config["hidden_layers"])]
        outputs = int(config["policy_output_size"])
        policy = _stack(document["policy_layers"], document["policy_head"], sizes, outputs)
        value_function = _stack(
            document["value_layers"], document["value_head"], sizes, int(config["value_output_size"])
        )
        model = Model(
            contract=PolicyContract.from_json_value(
                {"observation_size": sizes[0], "action_space": _space_document(document, outputs)}
            ),
            policy=policy,
            value_function=value_function,
            action_log_std=np.array(document.get("action_log_std") or [], dtype=np.float32),
            policy_version=int(document.get("policy_version", 0)),
            probe=_probe(document.get("probe")),
            lineage=Lineage.from_json_value(document.get("lineage") or {"cycle": 0, "epoch": 0}),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise ModelError(f"it is no model JSON: {type(error).__name__}: {error}", hint="see docs/formats.md") from None
    if isinstance(model.contract.action_space, ContinuousActions) and len(model.action_log_std) != outputs:
        raise ModelError(f"`action_log_std` has {len(model.action_log_std)} numbers, the policy {outputs}", hint="")
    if "checksum" in document and document["checksum"] != weights_checksum(model):
        raise ModelError("its weights are not those it was written with", hint="the file is torn or edited")
    return model


def _space_document(document: dict[str, Any], outputs: int) -> Any:
    known = document.get("action_space")
    if known is not None:
        return known
    names = ("steer", "throttle", "brake") if outputs == 3 else tuple(f"action_{i}" for i in range(outputs))
    return ContinuousActions.named(names).model_dump(mode="json")


def _stack(hidden: list[dict[str, Any]], head: dict[str, Any], sizes: list[int], outputs: int) -> Stack:
    if len(hidden) != len(sizes) - 1:
        raise ValueError(f"{len(hidden)} hidden layers where network_config says {len(sizes) - 1}")
    dense = [_dense(layer, i, o) for layer, i, o in zip(hidden, sizes[:-1], sizes[1:], strict=True)]
    return Stack(tuple(dense), _dense(head, sizes[-1], outputs))


def _dense(layer: dict[str, Any], inputs: int, outputs: int) -> Dense:
    weights = np.array(layer["weights"], dtype=np.float32)
    biases = np.array(layer["biases"], dtype=np.float32)
    if weights.shape != (inputs * outputs,) or biases.shape != (outputs,):
        raise ValueError(f"a layer of {weights.size} weights and {biases.size} biases where {inputs}x{outputs} is due")
    if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
        raise ValueError("a weight is not finite")
    return Dense(weights.reshape(outputs, inputs), biases)


def _probe(document: dict[str, Any] | None) -> Probe | None:
    if not document:
        return None
    columns = (np.array(document[name], dtype=np.float32) for name in ("observations", "means", "values"))
    return Probe(*columns)


def check_probe(model: Model, *, tolerance: float = PROBE_TOLERANCE) -> float:
    """Compare the model with its own probe; give the largest difference relative to the outputs' size.

    Raises ModelError where it exceeds `tolerance`, or where there is no probe.
    """
    if model.probe is None:
        raise ModelError("the model has no probe", hint="export it with scripts/export_model_for_unreal.py")
    means, values = model.mean(model.probe.observations), model.value(model.probe.observations)
    worst = max(_difference(means, model.probe.means), _difference(values, model.probe.values))
    if not worst <= tolerance:
        raise ModelError(
            f"the model computes something else than its probe says (difference {worst:.1e})",
            hint="its normalisation or a layer is wrong; do not load it",
            code="E_PROBE",
        )
    return worst


def _difference(a: Float32, b: Float32) -> float:
    if a.shape != b.shape:
        return math.inf
    scale = max(1e-3, float(np.abs(b).max(initial=0.0)))
    return float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scale
