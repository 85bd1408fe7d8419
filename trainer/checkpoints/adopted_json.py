"""Reads the model JSON of another program, and decides how it stores the deviations of the actions.

The engine's format has the natural log of the deviation in `action_log_std`. The public Unreal scripts write the log of
their parameter `policy_std`, which is itself a log: the log of the log. Their files can be recognised:

- Their policy and value function share the hidden layers, so `policy_layers` and `value_layers` are equal. The engine's
  own files and Hotlap's have two separate stacks.
- Or a number is nan, infinite or below ln 0.01, which no engine writes: the log of a negative number, of 0, or of a
  number just above 0.

`log_std = "natural"` or `"log-of-log"` overrides this.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from schemas.errors import ModelError
from schemas.job import LogStdForm
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, LOG_STD_START, Model, check_probe, read_model

_PLACEHOLDER = 0.5
"""What the public scripts write for each action if their checkpoint has no deviations."""
_TOLERANCE = 1e-3
_HINT = "a model JSON, a checkpoint (.pt, .pth): see `hotlap docs formats`"


@dataclass(frozen=True, slots=True)
class AdoptedJson:
    """A model JSON of any program."""

    model: Model
    is_own: bool  #: Hotlap wrote it
    names_actions: bool
    notes: tuple[str, ...]


def read_any_json(data: bytes, name: str, form: LogStdForm) -> AdoptedJson:
    """Return the model in a model JSON. Raises ModelError with one line that names the file."""
    document = _parsed(data, name)
    is_own = str(document.get("schema", "")).startswith("hotlap.model/")
    notes: tuple[str, ...] = ()
    _require_relu(document, name)
    if not is_own and (document.get("action_space") or {}).get("type") != "discrete":
        document["action_log_std"], notes = _natural_log_std(document, form, name)
    try:
        model = read_model(data if is_own else orjson.dumps(document))
        if len(model.value_function.head.biases) != 1:
            raise ModelError("its value head has more than one output", hint=_HINT)
        if model.probe is not None:
            check_probe(model)
    except ModelError as error:
        raise ModelError(
            f"{name} cannot be adopted: {error.message}", hint=error.hint or _HINT, code=error.code
        ) from None
    clamped = np.clip(model.action_log_std, LOG_STD_MIN, LOG_STD_MAX).astype(np.float32)
    return AdoptedJson(replace(model, action_log_std=clamped), is_own, document.get("action_space") is not None, notes)


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object. Python's parser also reads nan and infinity, which some programs write."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        document = json.loads(data.decode(encoding))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name} cannot be adopted: it is not JSON ({error})", hint=_HINT) from None
    if not isinstance(document, dict):
        raise ModelError(f"{name} cannot be adopted: it does not contain a JSON object", hint=_HINT)
    if "network_config" not in document and "experiences" in document:
        raise ModelError(f"{name} cannot be adopted: it is a rollout, not a model", hint=_HINT)
    return document


def _require_relu(document: dict[str, Any], name: str) -> None:
    """Raise ModelError if the file names another activation of the hidden layers than ReLU."""
    config = document.get("network_config")
    layers = [*_list(document.get("policy_layers")), *_list(document.get("value_layers"))]
    for place in (document, config, *layers):
        if isinstance(place, dict):
            for key, value in place.items():
                require_relu(key, value, name, is_layer=place not in (document, config))


def require_relu(key: str, value: object, name: str, *, is_layer: bool = False) -> None:
    """Raise ModelError if a setting of another program names an activation that the engine does not have."""
    if "activation" not in key.lower() or (not is_layer and any(part in key.lower() for part in ("output", "head"))):
        return
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and text.lower().rpartition(".")[2] not in {"relu", ""}:
            raise ModelError(
                f"{name} cannot be adopted: its hidden layers use {text}, but the engine runs ReLU",
                hint="train a network with ReLU",
            )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _natural_log_std(document: dict[str, Any], form: LogStdForm, name: str) -> tuple[list[float], tuple[str, ...]]:
    """Return the natural logs of the deviations, limited to the engine's range, and notes about how they were read."""
    written = document.get("action_log_std")
    if not isinstance(written, list) or not written:
        outputs = (document.get("network_config") or {}).get("policy_output_size", 0)
        return [LOG_STD_START] * int(outputs), ("it has no deviations of the actions: 0.5 is used",)
    try:
        values = [float("nan") if value is None else float(value) for value in written]
    except (TypeError, ValueError):
        raise ModelError(f"{name} cannot be adopted: action_log_std is not a list of numbers", hint=_HINT) from None
    is_shared = bool(document.get("policy_layers")) and document.get("policy_layers") == document.get("value_layers")
    if form == "natural" or (form == "auto" and not _is_log_of_log(values, is_shared=is_shared)):
        if not all(map(math.isfinite, values)):
            raise ModelError(f"{name} cannot be adopted: action_log_std contains {values[0]}", hint="--log-std auto")
        note = "action_log_std is read as the log of the deviation (--log-std natural)"
        return [_limited(value) for value in values], (note,) if form == "natural" else ()
    if form == "auto" and all(value == _PLACEHOLDER for value in values):
        return [LOG_STD_START] * len(values), ("action_log_std contains placeholders: the deviation 0.5 is used",)
    natural = [_from_log_of_log(value) for value in values]
    note = f"action_log_std is the log of the log, as the public scripts write it: the deviation is {numbers(natural)}"
    if any(math.isnan(value) for value in values):
        note = f"{note}; nan is the log of a negative number, so 0.5 is used: the checkpoint (.pt) has the right number"
    else:
        note = f"{note}; engines have used {numbers(values)} for this file, and `--log-std natural` keeps that"
    return natural, (note,)


def _is_log_of_log(values: list[float], *, is_shared: bool) -> bool:
    return is_shared or any(not math.isfinite(value) or value < LOG_STD_MIN - _TOLERANCE for value in values)


def _from_log_of_log(value: float) -> float:
    if math.isnan(value) or value == math.inf:
        return LOG_STD_START
    return _limited(math.exp(min(value, 50.0)))


def _limited(value: float) -> float:
    return max(LOG_STD_MIN, min(LOG_STD_MAX, value))


def numbers(log_stds: Sequence[float]) -> str:
    """Return deviations as text, from their logs; one number if they are equal."""
    texts = [f"{math.exp(value):.2f}" for value in log_stds]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
