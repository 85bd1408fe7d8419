"""Load the model JSON that the daemon publishes, check it, and run it.

The format is described in docs/reference/formats.md: flat row-major weights [out][in], y = W x + b, ReLU after every
hidden layer, tanh after the policy head (raw logits if the actions are discrete), nothing after the value head. The
trainer's normalisation is already folded into these weights. `engine` samples the actions.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]

PROBE_TOLERANCE = 1e-4  #: of a probe's numbers, relative to the largest of them if that exceeds 1
START_LOG_STD = math.log(0.5)  #: a new policy's standard deviation is one half


class ModelFileError(Exception):
    """A model that this engine must not run. The engine continues with its old weights."""


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """One dense layer."""

    weights: Floats32  #: [out, in]
    biases: Floats32  #: [out]

    def __call__(self, x: Floats32) -> Floats32:
        """Return W x + b for every row of `x` [n, in]."""
        y: Floats32 = x @ self.weights.T + self.biases
        return y


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A policy and a value network of the same hidden sizes."""

    policy: tuple[DenseLayer, ...]  #: hidden layers, then the head
    value_function: tuple[DenseLayer, ...]  #: hidden layers, then the head with one output
    action_log_std: Floats32  #: [A], natural logarithms
    policy_version: int | None  #: None if the file does not have it

    def mean(self, observation: Floats32) -> Floats32:
        """Return mean actions [n, A] in [-1, 1] for observations [n, O]."""
        return np.tanh(_forward(self.policy, observation))

    def value(self, observation: Floats32) -> Floats32:
        """Return values [n] for observations [n, O]."""
        return _forward(self.value_function, observation)[:, 0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the shape in one tuple: observations, hidden sizes, actions."""
        return (self.policy[0].weights.shape[1], *(len(layer.biases) for layer in self.policy))


def random_model(sizes: tuple[int, ...], rng: np.random.Generator) -> EngineModel:
    """Return a model with random weights (Glorot & Bengio 2010, uniform, also the heads), as Unreal's plugin starts."""

    def stack(outputs: int) -> tuple[DenseLayer, ...]:
        widths = (*sizes[:-1], outputs)
        layers = []
        for fan_in, fan_out in pairwise(widths):
            bound = math.sqrt(6.0 / (fan_in + fan_out))
            weights = rng.uniform(-bound, bound, (fan_out, fan_in)).astype(np.float32)
            layers.append(DenseLayer(weights, np.zeros(fan_out, np.float32)))
        return tuple(layers)

    return EngineModel(stack(sizes[-1]), stack(1), np.full(sizes[-1], START_LOG_STD, np.float32), policy_version=None)


def read_pointer(path: Path) -> str | None:
    """Return the model path in `best_model_path.txt`; None if the file is missing or empty. Raises OSError."""
    try:
        return _read(path).decode("utf-8-sig").strip() or None
    except FileNotFoundError:
        return None


def _read(path: Path, *, tries: int = 5, pause_s: float = 0.05) -> bytes:
    """Read a file. This is tried several times, because Windows does not open a file while it is replaced."""
    for _ in range(tries - 1):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(pause_s)
    return path.read_bytes()


def load_model(path: Path) -> EngineModel:
    """Read, check and probe a model. Raises ModelFileError, or OSError if it cannot be read."""
    model, document = parse_model(_read(path))
    check_probe(model, document.get("probe"))
    return model


def parse_model(data: bytes) -> tuple[EngineModel, dict[str, Any]]:
    """Return the model in a file's bytes, and the whole document. Raises ModelFileError."""
    try:
        document = json.loads(data)
        config = document["network_config"]
        sizes = [int(config["input_size"]), *map(int, config["hidden_layers"])]
        kind = (document.get("action_space") or {}).get("type", "continuous")
        if kind != "continuous":
            raise ModelFileError(f"its actions are {kind}; the racing game has steer, throttle and brake")
        actions, values = int(config["policy_output_size"]), int(config["value_output_size"])
        version = document.get("policy_version")
        model = EngineModel(
            policy=_stack([*document["policy_layers"], document["policy_head"]], [*sizes, actions]),
            value_function=_stack([*document["value_layers"], document["value_head"]], [*sizes, values]),
            action_log_std=_numbers(document["action_log_std"], actions, "action_log_std"),
            policy_version=None if version is None else int(version),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"it is not a model JSON ({type(error).__name__}: {error})") from None
    return model, document


def check_probe(model: EngineModel, probe: dict[str, Any] | None) -> None:
    """Compare the model's outputs with those in its probe, if it has one. Raises ModelFileError."""
    if not probe:
        return
    observations = np.array(probe["observations"], np.float32)
    for name, computed in (("means", model.mean(observations)), ("values", model.value(observations))):
        expected = np.array(probe[name], np.float32)
        allowed = PROBE_TOLERANCE * max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(computed - expected).max()) if computed.shape == expected.shape else math.inf
        if not difference <= allowed:
            raise ModelFileError(f"its probe has other {name} than this engine computes (difference {difference:.1e})")


def _forward(layers: tuple[DenseLayer, ...], x: Floats32) -> Floats32:
    for hidden in layers[:-1]:
        x = np.maximum(hidden(x), np.float32(0.0))
    return layers[-1](x)


def _stack(documents: list[dict[str, Any]], sizes: list[int]) -> tuple[DenseLayer, ...]:
    if len(documents) != len(sizes) - 1:
        raise ModelFileError(f"it has {len(documents)} layers, but network_config requires {len(sizes) - 1}")
    return tuple(
        DenseLayer(
            _numbers(document["weights"], fan_in * fan_out, "weights").reshape(fan_out, fan_in),
            _numbers(document["biases"], fan_out, "biases"),
        )
        for document, fan_in, fan_out in zip(documents, sizes[:-1], sizes[1:], strict=True)
    )


def _numbers(values: list[float], count: int, name: str) -> Floats32:
    array = np.array(values, np.float32)
    if array.shape != (count,):
        raise ModelFileError(f"a layer's `{name}` has {array.size} numbers, but its size requires {count}")
    if not np.isfinite(array).all():
        raise ModelFileError(f"`{name}` contains a number that is not finite")
    return array
