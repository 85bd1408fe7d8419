"""The networks of policies: for vectors the trainer's own, which engines can run; for images a small CNN."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from schemas.model import LOG_STD_START
from trainer.common.rng import key_for
from trainer.networks.network import Network, Shape, build_network, orthogonal, run_stack

_SMALLEST_SIDE = 16  #: of an image that two convolutions of `ImageNetwork` fit into


class PolicyNetwork(Protocol):
    """The network of a learner."""

    action_log_std: nn.Parameter  #: [A], of real-valued actions, set after training; otherwise empty

    def outputs(self, observation: Tensor) -> Tensor:
        """Return the policy head's raw outputs [B, K] for prepared observations."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that imitation changes."""

    def module(self) -> nn.Module:
        """Return the module whose state a checkpoint contains."""


class VectorNetwork:
    """The trainer's network. Its value stack is never trained, because an expert has no values."""

    def __init__(self, shape: Shape, seed: int, milestone_id: str) -> None:
        self.network: Network = build_network(shape, custom="", seed=seed, purpose=f"dagger/{milestone_id}")
        self.action_log_std = self.network.action_log_std
        self._stack = self.network.stacks().policy

    def outputs(self, observation: Tensor) -> Tensor:
        """Return the outputs of the policy stack."""
        return run_stack(self._stack, observation)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the policy stack."""
        return [parameter for layer in self._stack for parameter in layer.parameters()]

    def module(self) -> nn.Module:
        """Return the whole network."""
        return self.network


class ImageNetwork(nn.Module):
    """Two convolutions and two linear layers over images [B, C, H, W] in [0, 1]."""

    def __init__(
        self, shape: tuple[int, ...], hidden: int, outputs: int, log_stds: int, seed: int, milestone_id: str
    ) -> None:
        super().__init__()
        height, width, channels = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_for(seed, f"dagger/{milestone_id}"))
            self.convolutions = nn.Sequential(
                *_padding(height, width),
                nn.Conv2d(channels, 16, 8, stride=4, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 32, 4, stride=2),
                nn.ReLU(),
            )
            with torch.no_grad():
                features = self.convolutions(torch.zeros(1, channels, height, width)).numel()
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


def _padding(height: int, width: int) -> list[nn.Module]:
    """Return a layer that enlarges images that are too low or narrow for the convolutions."""
    bottom, right = max(0, _SMALLEST_SIDE - height), max(0, _SMALLEST_SIDE - width)
    return [nn.ZeroPad2d((0, right, 0, bottom))] if bottom or right else []
