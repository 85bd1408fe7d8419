"""Forward and backward through the policy and the value stack of the built-in network, without autograd.

It works on any device, and on any size of batch. Letters: see trainer.common.shapes; H is a layer's outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.networks.network import ActorCritic
from trainer.ppo.analytic.network import FlatParameters


class _Stack:
    """One stack: ReLU after each layer except the last one."""

    def __init__(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._weights, self._biases = parameters[::2], parameters[1::2]
        self._transposed = [weight.t() for weight in self._weights]
        self._weight_grads, self._bias_grads = gradients[::2], gradients[1::2]
        self._inputs: list[Tensor] = []

    def forward(self, layer_BI: Tensor) -> Tensor:
        self._inputs = []
        last = len(self._weights) - 1
        for index, (transposed, bias) in enumerate(zip(self._transposed, self._biases, strict=True)):
            self._inputs.append(layer_BI)
            layer_BI = torch.addmm(bias, layer_BI, transposed)
            if index < last:
                layer_BI.relu_()
        return layer_BI

    def backward(self, grad_BH: Tensor) -> None:
        for index in range(len(self._weights) - 1, -1, -1):
            torch.mm(grad_BH.t(), self._inputs[index], out=self._weight_grads[index])
            torch.sum(grad_BH, dim=0, out=self._bias_grads[index])
            if index:
                grad_BH = torch.mm(grad_BH, self._weights[index])
                grad_BH = torch.ops.aten.threshold_backward(grad_BH, self._inputs[index], 0)


class PolicyPass:
    """The parameters of both stacks in one vector, and their gradient in another."""

    def __init__(self, network: ActorCritic) -> None:
        self._flat = FlatParameters(network)
        self.vector, self.gradient = self._flat.vector, self._flat.gradient
        parameters, gradients = self._flat.ordered, self._flat.views(self.gradient)
        per_stack = 2 * (len(network.shape.hidden_sizes) + 1)
        policy, value = slice(0, per_stack), slice(per_stack, 2 * per_stack)
        self._policy = _Stack([p.data for p in parameters[policy]], gradients[policy])
        self._value = _Stack([p.data for p in parameters[value]], gradients[value])

    def policy(self, observation_BO: Tensor) -> Tensor:
        """Return the policy head's raw outputs [B, K]."""
        return self._policy.forward(observation_BO)

    def value(self, observation_BO: Tensor) -> Tensor:
        """Return the values [B, 1]."""
        return self._value.forward(observation_BO)

    def backward(self, output_grad_BK: Tensor) -> None:
        """Write the gradient of the policy stack, given the derivative of the last `policy`.

        `action_log_std` has no gradient.
        """
        self._policy.backward(output_grad_BK)

    def backward_values(self, value_grad_B1: Tensor) -> None:
        """Write the gradient of the value stack, given the derivative of the last `value`."""
        self._value.backward(value_grad_B1)
