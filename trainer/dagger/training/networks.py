"""The networks of policies: for vectors the trainer's own, which engines can run.

For images it is `trainer.networks.image_network.ImageNetwork`.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from trainer.networks.network import Network, Shape, build_network, run_stack


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
