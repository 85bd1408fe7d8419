"""The model JSON that engines load: reading, writing, and computing the same outputs as an engine."""

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
"""Largest difference that float32 rounding can cause, relative to the size of the outputs."""
LOG_STD_MIN = math.log(0.01)
LOG_STD_MAX = math.log(2.0)
LOG_STD_START = math.log(0.5)
NOISE_STD_MIN = 0.01
MAX_MODEL_BYTES = 512 * 1024 * 1024


class Lineage(StrictModel):
    """The origin of a model; see 'Model JSON' in docs/reference/formats.md."""

    cycle: int
    epoch: int
    parent: str | None = None  #: the model JSON of the parent policy, relative to Models/
    rollouts: tuple[str, ...] = ()  #: SHA-256 of the new rollouts
    config_hash: str = ""
    seed: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    score: float | None = None
    adopted: str | None = None  #: the name of the file that the model was adopted from, a space, and its SHA-256

    def document(self) -> dict[str, Any]:
        """Return the JSON value. `adopted` is left out if it is not set: older readers reject unknown keys."""
        return self.model_dump(mode="json", exclude=None if self.adopted else {"adopted"})


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
    """Hidden layers, each followed by ReLU, and a head."""

    hidden: tuple[Dense, ...]
    head: Dense

    def __call__(self, x: Float32) -> Float32:
        """Return the head's raw outputs for each row of `x` [n, in]."""
        for layer in self.hidden:
            x = np.maximum(layer(x), np.float32(0))
        return self.head(x)

    def layers(self) -> tuple[Dense, ...]:
        """Return all layers, the head last."""
        return (*self.hidden, self.head)


@dataclass(frozen=True, slots=True)
class Probe:
    """Observations with the outputs that the trainer computed for them, to check a loaded model."""

    observations: Float32  #: [p, O]
    means: Float32  #: [p, A]; the logits if the policy is discrete
    values: Float32  #: [p]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A policy and a value network as an engine runs them, with normalisation folded in."""

    contract: PolicyContract
    policy: Stack
    value_function: Stack
    action_log_std: Float32  #: [A]; empty if the policy is discrete
    policy_version: int
    probe: Probe | None
    lineage: Lineage

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Return the sizes of the hidden layers."""
        return tuple(len(layer.biases) for layer in self.policy.hidden)

    def mean(self, observations: Float32) -> Float32:
        """Return the mean action [n, A] in [-1, 1], or the raw logits of a discrete policy; observations [n, O]."""
        raw = self.policy(np.asarray(observations, dtype=np.float32))
        return np.tanh(raw) if isinstance(self.contract.action_space, ContinuousActions) else raw

    def value(self, observations: Float32) -> Float32:
        """Return the value [n] in the reward units of the game; observations [n, O]."""
        return self.value_function(np.asarray(observations, dtype=np.float32))[:, 0]


def model_to_bytes(model: Model) -> bytes:
    """Return the model JSON. Raises ModelError if a weight is not finite."""
    layers = (*model.policy.layers(), *model.value_function.layers())
    arrays = [model.action_log_std, *(a for layer in layers for a in (layer.weights, layer.biases))]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ModelError(
            "the model contains a weight that is not finite", hint="lower learning_rate", code="E_NONFINITE"
        )
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
        "lineage": model.lineage.document(),
    }
    if model.probe is not None:
        probe = model.probe
        document["probe"] = {"observations": probe.observations, "means": probe.means, "values": probe.values}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _layer(layer: Dense) -> dict[str, Float32]:
    return {"weights": np.ascontiguousarray(layer.weights).reshape(-1), "biases": np.ascontiguousarray(layer.biases)}


def weights_checksum(model: Model) -> str:
    """Return the SHA-256 over all weights as little-endian float32, in their order in the file."""
    digest = hashlib.sha256()
    for layer in (*model.policy.layers(), *model.value_function.layers()):
        digest.update(np.ascontiguousarray(layer.weights, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(layer.biases, dtype="<f4").tobytes())
    digest.update(np.ascontiguousarray(model.action_log_std, dtype="<f4").tobytes())
    return digest.hexdigest()


def is_own_format(data: bytes) -> bool:
    """Return whether a model JSON names Hotlap's format, so that it was not written by another program."""
    return f'"schema":"{SCHEMA_NAME}"'.encode() in data


def read_model(data: bytes) -> Model:
    """Return the model in a model JSON, of Hotlap or of another program. Raises ModelError.

    The required keys are those of 'Model JSON' in docs/reference/formats.md.
    """
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
                {"observation_size": sizes[0], "action_space": _action_space(document, outputs)}
            ),
            policy=policy,
            value_function=value_function,
            action_log_std=np.array(document.get("action_log_std") or [], dtype=np.float32),
            policy_version=int(document.get("policy_version", 0)),
            probe=_probe(document.get("probe")),
            lineage=Lineage.from_json_value(document.get("lineage") or {"cycle": 0, "epoch": 0}),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise ModelError(f"it is not a model JSON: {_reason(error)}", hint="see `hotlap docs formats`") from None
    if isinstance(model.contract.action_space, ContinuousActions) and len(model.action_log_std) != outputs:
        raise ModelError(
            f"`action_log_std` has {len(model.action_log_std)} numbers, but the policy has {outputs} actions",
            hint="see `hotlap docs formats`",
        )
    if "checksum" in document and document["checksum"] != weights_checksum(model):
        raise ModelError(
            "its weights do not match its checksum", hint="the file is damaged or was edited; publish another model"
        )
    return model


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the key {error.args[0]} is missing"
    if isinstance(error, orjson.JSONDecodeError):
        return f"it is not JSON ({error})"
    if isinstance(error, ValidationError):
        return f"{'.'.join(map(str, error.errors()[0]['loc']))} is wrong"
    if isinstance(error, TypeError):
        return "a value has the wrong type"
    return str(error)


def _action_space(document: dict[str, Any], outputs: int) -> Any:
    if document.get("action_space") is not None:
        return document["action_space"]
    names = ("steer", "throttle", "brake") if outputs == 3 else tuple(f"action_{i}" for i in range(outputs))
    return ContinuousActions.named(names).model_dump(mode="json")


def _stack(hidden: list[dict[str, Any]], head: dict[str, Any], sizes: list[int], outputs: int) -> Stack:
    if len(hidden) != len(sizes) - 1:
        raise ValueError(f"it has {len(hidden)} hidden layers, but network_config names {len(sizes) - 1}")
    dense = [_dense(layer, i, o) for layer, i, o in zip(hidden, sizes[:-1], sizes[1:], strict=True)]
    return Stack(tuple(dense), _dense(head, sizes[-1], outputs))


def _dense(layer: dict[str, Any], inputs: int, outputs: int) -> Dense:
    weights = np.array(layer["weights"], dtype=np.float32)
    biases = np.array(layer["biases"], dtype=np.float32)
    if weights.shape != (inputs * outputs,) or biases.shape != (outputs,):
        raise ValueError(
            f"a layer has {weights.size} weights and {biases.size} biases, not {inputs}x{outputs} and {outputs}"
        )
    if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
        raise ValueError("a weight is not finite")
    return Dense(weights.reshape(outputs, inputs), biases)


def _probe(document: dict[str, Any] | None) -> Probe | None:
    if not document:
        return None
    columns = (np.array(document[name], dtype=np.float32) for name in ("observations", "means", "values"))
    return Probe(*columns)


def check_probe(model: Model, *, tolerance: float = PROBE_TOLERANCE) -> float:
    """Return the largest difference between the model's outputs and its probe, relative to the size of the outputs.

    Raises ModelError if it exceeds `tolerance`, or if the model has no probe.
    """
    if model.probe is None:
        raise ModelError("the model has no probe", hint="export it again with scripts/export_model_for_unreal.py")
    means, values = model.mean(model.probe.observations), model.value(model.probe.observations)
    worst = max(_difference(means, model.probe.means), _difference(values, model.probe.values))
    if not worst <= tolerance:
        raise ModelError(
            f"the model does not compute the outputs of its probe (difference {worst:.1e})",
            hint="its normalisation or a layer is wrong; do not load it, publish another model",
            code="E_PROBE",
        )
    return worst


def _difference(a: Float32, b: Float32) -> float:
    if a.shape != b.shape:
        return math.inf
    scale = max(1e-3, float(np.abs(b).max(initial=0.0)))
    return float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scale
