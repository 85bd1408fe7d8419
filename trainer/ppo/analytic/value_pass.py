"""The forward and backward pass of the value stack alone, for steps that do not train the policy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.ppo.analytic import private_torch
from trainer.ppo.analytic.network import StackedNetwork


class ValuePass:
    """Computes what StackedPass computes for the value stack. `..._grad` is d loss / d `...`."""

    def __init__(self, stacked: StackedNetwork, size: int) -> None:
        self._parameters, self._gradients = stacked.parameters, stacked.gradients
        self._weight_HI = [pair[1] for pair in self._parameters.weight_THI]
        self._bias_H = [pair[1, 0] for pair in self._parameters.bias_T1H]
        self._weight_grad_HI = [pair[1] for pair in self._gradients.weight_THI]
        self._bias_grad_H = [pair[1, 0].numpy() for pair in self._gradients.bias_T1H]
        self._hidden = [torch.empty(size, width) for width in stacked.hidden_sizes]  # after the ReLU
        self._hidden_grad = [torch.empty(size, width) for width in stacked.hidden_sizes]
        self._ones_B = np.ones(size, dtype=np.float32)
        self.value_B1: Float32 = np.empty((size, 1), dtype=np.float32)
        self.value_grad_B1: Float32 = np.empty_like(self.value_B1)  #: fill it before `backward`

    def forward(self, observation_BO: Tensor) -> None:
        """Fill `value_B1`."""
        layer = observation_BO
        for bias, weight, hidden in zip(self._bias_H, self._weight_HI, self._hidden, strict=True):
            torch.addmm(bias, layer, weight.t(), out=hidden)
            layer = hidden.relu_()
        np.dot(self._hidden[-1].numpy(), self._parameters.value_weight.T, out=self.value_B1)
        np.add(self.value_B1, self._parameters.value_bias, out=self.value_B1)

    def backward(self, observation_BO: Tensor) -> None:
        """Write the gradient of the value stack, given the last `forward` and `value_grad_B1`."""
        last = self._hidden[-1].numpy()
        np.dot(self.value_grad_B1.T, last, out=self._gradients.value_weight)
        np.dot(self._ones_B, self.value_grad_B1, out=self._gradients.value_bias)
        np.dot(self.value_grad_B1, self._parameters.value_weight, out=self._hidden_grad[-1].numpy())
        for i in range(len(self._hidden) - 1, -1, -1):
            grad = self._hidden_grad[i]
            private_torch.relu_backward_(grad, self._hidden[i], 0, grad_input=grad)
            np.dot(self._ones_B, grad.numpy(), out=self._bias_grad_H[i])
            inputs = self._hidden[i - 1] if i else observation_BO
            np.dot(grad.numpy().T, inputs.numpy(), out=self._weight_grad_HI[i].numpy())
            if i:
                torch.mm(grad, self._weight_HI[i], out=self._hidden_grad[i - 1])
