"""The networks for images: a small CNN, alone for imitation, and with a value head for reinforcement learning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from schemas.model import LOG_STD_START
from trainer.common.rng import key_for
from trainer.networks.network import Network, Shape, Stacks, orthogonal

FORMAT = "hotlap.dagger_pixels/1"
"""The format of checkpoints with an image policy; the key "picture" has its height, width and channels."""
_LAYER = "layer."
_SMALLEST_SIDE = 16  #: of an image that two convolutions fit into


@dataclass(frozen=True, slots=True)
class ImageShape:
    """Images of bytes that a policy observes."""

    height: int
    width: int
    channels: int
    largest: float = 255.0  #: the byte that becomes 1.0

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return self.height * self.width * self.channels


def convolutions(height: int, width: int, channels: int) -> tuple[nn.Sequential, int]:
    """Return two convolutions with ReLU, and the number of features after them. Small images are enlarged first."""
    layers = nn.Sequential(
        *_padding(height, width),
        nn.Conv2d(channels, 16, 8, stride=4, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.ReLU(),
    )
    with torch.no_grad():
        return layers, layers(torch.zeros(1, channels, height, width)).numel()


class ImageNetwork(nn.Module):
    """Two convolutions and two linear layers over images [B, C, H, W] in [0, 1]."""

    def __init__(
        self, shape: tuple[int, ...], hidden: int, outputs: int, log_stds: int, *, seed: int, purpose: str
    ) -> None:
        super().__init__()
        height, width, channels = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_for(seed, purpose))
            self.convolutions, features = convolutions(height, width, channels)
            self.hidden = orthogonal(nn.Linear(features, hidden), math.sqrt(2.0))
            self.head = orthogonal(nn.Linear(hidden, outputs), 0.01)
        self.action_log_std = nn.Parameter(torch.full((log_stds,), LOG_STD_START))

    def forward(self, image: Tensor) -> Tensor:
        """Return the raw outputs [B, K]."""
        features = self.convolutions(image).flatten(1)
        result: Tensor = self.head(torch.relu(self.hidden(features)))
        return result

    def outputs(self, observation: Tensor) -> Tensor:
        """Return the raw outputs [B, K]."""
        result: Tensor = self(observation)
        return result

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all layers."""
        layers = (self.convolutions, self.hidden, self.head)
        return [parameter for layer in layers for parameter in layer.parameters()]

    def module(self) -> nn.Module:
        """Return this module."""
        return self


class ImageActorCritic(Network):
    """The layers of `ImageNetwork` with the same names, and a value head. It takes bytes [B, H x W x C].

    Policy and value share all layers but their heads, because convolutions are most of the work.
    """

    def __init__(self, shape: Shape, image: ImageShape, *, seed: int) -> None:
        super().__init__(shape)
        self.image = image
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_for(seed, "network"))
            self.convolutions, features = convolutions(image.height, image.width, image.channels)
            self.hidden = orthogonal(nn.Linear(features, shape.hidden_sizes[0]), math.sqrt(2.0))
            self.head = orthogonal(nn.Linear(shape.hidden_sizes[0], shape.outputs), 0.01)
            self.value_head = orthogonal(nn.Linear(shape.hidden_sizes[0], 1), 0.01)

    def forward(self, observation_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy head's raw outputs [B, K] and the values [B], in normalised units."""
        features = self._features(observation_BO)
        return self.head(features), self.value_head(features).squeeze(1)

    def values(self, observation_BO: Tensor) -> Tensor:
        """Return only the values [B]."""
        value_B: Tensor = self.value_head(self._features(observation_BO)).squeeze(1)
        return value_B

    def _features(self, observation_BO: Tensor) -> Tensor:
        image = self.image
        pixels = observation_BO.view(-1, image.height, image.width, image.channels).permute(0, 3, 1, 2)
        features = self.convolutions(pixels.float() / image.largest)
        return torch.relu(self.hidden(features.flatten(1)))

    def stacks(self) -> Stacks:
        """Return the linear layers after the convolutions: they are what an update of the policy or the value needs."""
        return Stacks((self.hidden, self.head), (self.hidden, self.value_head))


class ImagePolicy:
    """A frozen copy of an `ImageActorCritic`'s policy, on the CPU."""

    def __init__(self, network: ImageActorCritic) -> None:
        """Use the network itself; see `of` for a copy."""
        self._network = network.eval().requires_grad_(requires_grad=False)

    @classmethod
    def of(cls, network: ImageActorCritic) -> ImagePolicy:
        """Return a copy of the network as it is now."""
        return cls.with_state(network.shape, network.image, copy_of_state(network))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], shape: Shape) -> ImagePolicy:
        """Return the policy that `arrays` returned. Raises KeyError, ValueError or RuntimeError."""
        height, width, channels, hidden = arrays["image"].tolist()
        image = ImageShape(height, width, channels, float(arrays["image_largest"]))
        state = {
            name.removeprefix(_LAYER): torch.from_numpy(arrays[name]) for name in arrays if name.startswith(_LAYER)
        }
        return cls.with_state(replace(shape, hidden_sizes=(hidden,)), image, state)

    @classmethod
    def with_state(cls, shape: Shape, image: ImageShape, state: Mapping[str, Tensor]) -> ImagePolicy:
        """Return the policy with these weights. Raises RuntimeError if they do not fit."""
        with torch.device("meta"):  # no time for weights that are replaced
            network = ImageActorCritic(shape, image, seed=0)
        network.load_state_dict(state, assign=True)
        return cls(network)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the weights and what the network is made from, for `from_arrays`."""
        image, hidden = self._network.image, self._network.shape.hidden_sizes[0]
        return {
            "image": np.array([image.height, image.width, image.channels, hidden]),
            "image_largest": np.array(image.largest),
            **{f"{_LAYER}{name}": tensor.numpy() for name, tensor in self._network.state_dict().items()},
        }

    @torch.no_grad()
    def __call__(self, observation_NO: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the raw outputs [N, K]."""
        output_NK, _ = self._network(torch.from_numpy(np.ascontiguousarray(observation_NO)))
        result: npt.NDArray[np.float32] = output_NK.numpy()
        return result

    @torch.no_grad()
    def values(self, observation_NO: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the values [N] in normalised units."""
        result: npt.NDArray[np.float32] = self._network.values(torch.from_numpy(observation_NO)).numpy()
        return result


def copy_of_state(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _padding(height: int, width: int) -> list[nn.Module]:
    """Return a layer that enlarges images that are too low or narrow for the convolutions."""
    bottom, right = max(0, _SMALLEST_SIDE - height), max(0, _SMALLEST_SIDE - width)
    return [nn.ZeroPad2d((0, right, 0, bottom))] if bottom or right else []
