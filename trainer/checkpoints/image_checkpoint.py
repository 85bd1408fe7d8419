"""Checkpoints with a policy for images, of DAgger and of online training. Engines cannot run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract
from schemas.errors import ModelError
from trainer.envs.vec_env import Float32, Observations
from trainer.networks.image_network import FORMAT, ImagePolicy, ImageShape
from trainer.networks.network import Shape
from trainer.networks.normaliser import Normalisers

_SPACE: TypeAdapter[ActionSpace] = TypeAdapter(ActionSpace)


def image_document(
    *,
    state: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
    history: Mapping[str, list[float]],
    image: ImageShape,
    hidden: int,
    action_kind: str,
    space: ActionSpace,
) -> dict[str, Any]:
    """Return the dict of a checkpoint: the three main keys of the trainer, and what its network is made from.

    The layers of the policy are `convolutions`, `hidden` and `head`. The state may have more layers.
    """
    return {
        "format": FORMAT,
        "policy_state_dict": dict(state),
        "optimizer_state_dict": dict(optimizer),
        "training_history": {name: list(values) for name, values in history.items()},
        "picture": [image.height, image.width, image.channels],
        "picture_max": image.largest,
        "hidden": hidden,
        "action_kind": action_kind,
        "action_space": space.model_dump(mode="json"),
    }


def is_image_document(document: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint contains a policy for images."""
    return str(document.get("format", "")).startswith("hotlap.dagger_pixels/")


def image_policy_state(
    document: Mapping[str, Any], name: str, *, image: ImageShape, hidden: int, space: ActionSpace
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for this image and these actions. Raises ModelError if it has others."""
    differences = []
    for key, wanted, words in (
        ("picture", [image.height, image.width, image.channels], "images"),
        ("picture_max", image.largest, "largest byte"),
        ("hidden", hidden, "train.hidden_sizes"),
        ("action_space", space.model_dump(mode="json"), "actions"),
    ):
        found = document.get(key)
        if _plain(found) != _plain(wanted):
            differences.append(f"{words} {_words(found)} instead of {_words(wanted)}")
    if differences:
        raise ModelError(
            f"{name} has {' and '.join(differences)}",
            hint="use the environment and the config that it was trained with",
            code="E_CONTRACT",
        )
    state = document.get("policy_state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{name} does not contain weights", hint="train again", code="E_CHECKPOINT")
    return dict(state)


def _plain(value: Any) -> Any:
    """Return a value with lists instead of tuples, as they are after a checkpoint was read."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("names") or f"one of {value.get('n')} choices")
    return " x ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"{value:g}"


class ImageCheckpointPolicy:
    """The policy of a checkpoint for images. Observations are bytes, [n, height, width, channels] or [n, size]."""

    def __init__(self, document: Mapping[str, Any], name: str) -> None:
        """Raise ModelError if the checkpoint is damaged."""
        self._name = name
        try:
            height, width, channels = document["picture"]
            image = ImageShape(height, width, channels, float(document["picture_max"]))
            self.space: ActionSpace = _SPACE.validate_python(document["action_space"])
            state = dict(document["policy_state_dict"])
            outputs, hidden = self.space.output_size, int(document["hidden"])
            self._has_values = "value_head.weight" in state
            if not self._has_values:
                state |= {"value_head.weight": torch.zeros(1, hidden), "value_head.bias": torch.zeros(1)}
            self.log_std_A = state["action_log_std"].numpy()
            shape = Shape(image.size, (hidden,), outputs, len(self.log_std_A))
            self.policy = ImagePolicy.with_state(shape, image, state)
            self._returns = Normalisers.from_state_dict(document["normalisers"]).returns if self._has_values else None
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            cause = f"{type(error).__name__}: {error}"
            raise ModelError(f"{name} is incomplete: {cause}", hint="train again", code="E_CHECKPOINT") from None
        self.contract = PolicyContract(observation_size=image.size, action_space=self.space)

    def mean(self, observations: Observations) -> Float32:
        """Return the mean actions [n, A] in [-1, 1], or the logits."""
        output_NK = self.policy(self._rows(observations))
        return np.tanh(output_NK) if isinstance(self.space, ContinuousActions) else output_NK

    def value(self, observations: Observations) -> Float32:
        """Return the values [n] in reward units. Raises ModelError if the policy learned from an expert alone."""
        if self._returns is None:
            raise ModelError(f"{self._name} has no values", hint="an expert's labels do not contain rewards")
        value_N = self.policy.values(self._rows(observations)).astype(np.float64)
        return self._returns.restored(value_N).astype(np.float32)

    def _rows(self, observations: Observations) -> Observations:
        array = np.asarray(observations)
        if array.dtype != np.uint8:
            raise ModelError(f"{self._name} needs images of bytes (uint8), not {array.dtype}", hint="convert them")
        return array.reshape(len(array), -1)
