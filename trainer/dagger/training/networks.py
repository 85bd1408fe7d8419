"""Policies as networks: for vectors the trainer's own, whose weights an engine can run; for pictures a small CNN."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from schemas.model import LOG_STD_START
from trainer.common.rng import key_for
from trainer.networks.network import Network, Shape, build_network, orthogonal, run_stack


class PolicyNet(Protocol):
    """What both are to the learner."""

    action_log_std: nn.Parameter  #: [A], one a real-valued action, noted after training; empty otherwise

    def outputs(self, observation: Tensor) -> Tensor:
        """Return the policy head's raw outputs [B, K] for prepared observations."""

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that imitation moves."""

    def module(self) -> nn.Module:
        """Return the module whose state a checkpoint keeps."""


class VectorNet:
    """The trainer's network; its value stack stays as it was born, since an expert says nothing about values."""

    def __init__(self, shape: Shape, seed: int, milestone: str) -> None:
        self.network: Network = build_network(shape, custom="", seed=seed, purpose=f"dagger/{milestone}")
        self.action_log_std = self.network.action_log_std
        self._stack = self.network.stacks().policy

    def outputs(self, observation: Tensor) -> Tensor:
        """Run the policy stack alone."""
        return run_stack(self._stack, observation)

    def trained(self) -> list[nn.Parameter]:
        """The policy stack."""
        return [parameter for layer in self._stack for parameter in layer.parameters()]

    def module(self) -> nn.Module:
        """The whole network."""
        return self.network


class PixelNet(nn.Module):
    """Two convolutions and two linear layers over pictures [B, C, H, W] in [0, 1]."""

    def __init__(
        self, picture: tuple[int, ...], hidden: int, outputs: int, log_stds: int, seed: int, milestone: str
    ) -> None:
        super().__init__()
        height, width, channels = picture
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_for(seed, f"dagger/{milestone}"))
            self.convolutions = nn.Sequential(
                nn.Conv2d(channels, 16, 8, stride=4, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2), nn.ReLU()
            )
            with torch.no_grad():
                features = self.convolutions(torch.zeros(1, channels, height, width)).numel()
            self.hidden = orthogonal(nn.Linear(features, hidden), math.sqrt(2.0))
            self.head = orthogonal(nn.Linear(hidden, outputs), 0.01)
        self.action_log_std = nn.Parameter(torch.full((log_stds,), LOG_STD_START))

    def forward(self, picture: Tensor) -> Tensor:
        """Return the raw outputs [B, K]."""
        features = self.convolutions(picture).flatten(1)
        result: Tensor = self.head(torch.relu(self.hidden(features)))
        return result

    def outputs(self, observation: Tensor) -> Tensor:
        """The same."""
        result: Tensor = self(observation)
        return result

    def trained(self) -> list[nn.Parameter]:
        """All layers."""
        layers = (self.convolutions, self.hidden, self.head)
        return [parameter for layer in layers for parameter in layer.parameters()]

    def module(self) -> nn.Module:
        """Itself."""
        return self
