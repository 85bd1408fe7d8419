"""The forward and backward pass of the built-in network, without autograd, over one vector of parameters.

Policy and value stack have the same hidden sizes, so each pair of layers is one batched matrix product. All buffers are
allocated once for each minibatch size. Wide products use torch. The heads use numpy, whose products are faster for few
columns. The results are those of autograd up to the order of additions, which the tests check.

Letters besides those of trainer.common.shapes:
T the two stacks (policy, value)    I inputs of a layer    H outputs of a hidden layer
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.networks.network import ActorCritic
from trainer.ppo.analytic import private_torch

_MIN_INPUTS_FOR_TORCH = 32
"""With fewer inputs, the first layer's gradient is two numpy products: torch's are slow for few columns."""


def ordered_parameters(network: ActorCritic) -> list[Tensor]:
    """Return the parameters in the order of the flat vector: policy stack, value stack, `action_log_std`."""
    stacks = network.stacks()
    layers = [layer for stack in (stacks.policy, stacks.value) for layer in stack]
    return [*(tensor for layer in layers for tensor in (layer.weight, layer.bias)), network.action_log_std]


class FlatParameters:
    """The network's parameters moved into one vector, and a second vector of the same layout for their gradient.

    The network works as before: its parameters are views of the vector. `value_part` are the value stack's rows.
    """

    def __init__(self, network: ActorCritic) -> None:
        self.ordered = ordered_parameters(network)
        self.sizes = [parameter.numel() for parameter in self.ordered]
        starts = [0, *itertools.accumulate(self.sizes)]
        per_stack = (len(self.sizes) - 1) // 2
        self.value_part = slice(starts[per_stack], starts[2 * per_stack])
        self.vector = torch.cat([parameter.detach().reshape(-1) for parameter in self.ordered])
        self.gradient = torch.zeros_like(self.vector)
        for parameter, view in zip(self.ordered, self.views(self.vector), strict=True):
            parameter.data = view

    def views(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of a vector of this layout, as views in the parameters' shapes."""
        parts = torch.split(vector, self.sizes)
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.ordered, strict=True)]


class _LayerPairs:
    """Views of one flat vector (parameters or gradients): pairs of hidden layers, two heads, `action_log_std`."""

    def __init__(self, flat: FlatParameters, vector: Tensor, hidden_layers: int) -> None:
        views = flat.views(vector)
        per_stack = 2 * (hidden_layers + 1)
        self.weight_THI = [_pair(vector, views, 2 * i, per_stack) for i in range(hidden_layers)]
        self.bias_T1H = [_pair(vector, views, 2 * i + 1, per_stack).unsqueeze(1) for i in range(hidden_layers)]
        self.policy_weight, self.policy_bias = (v.numpy() for v in views[per_stack - 2 : per_stack])
        self.value_weight, self.value_bias = (v.numpy() for v in views[2 * per_stack - 2 : 2 * per_stack])
        self.log_std_A: Float32 = views[-1].numpy()


def _pair(vector: Tensor, views: list[Tensor], index: int, per_stack: int) -> Tensor:
    """Return the same layer of both stacks as one view with a leading axis of 2."""
    policy, value = views[index], views[index + per_stack]
    distance = value.storage_offset() - policy.storage_offset()
    return vector.as_strided((2, *policy.shape), (distance, *policy.stride()), policy.storage_offset())


class StackedNetwork:
    """The parameters and gradients of the two stacks, by layer."""

    def __init__(self, network: ActorCritic) -> None:
        self.flat = FlatParameters(network)
        self.hidden_sizes = network.shape.hidden_sizes
        self.outputs = network.shape.outputs
        self.parameters = _LayerPairs(self.flat, self.flat.vector, len(self.hidden_sizes))
        self.gradients = _LayerPairs(self.flat, self.flat.gradient, len(self.hidden_sizes))


class StackedPass:
    """Forward and backward through both stacks for minibatches of one size. `..._grad` is d loss / d `...`."""

    def __init__(self, stacked: StackedNetwork, size: int) -> None:
        self._parameters, self._gradients = stacked.parameters, stacked.gradients
        self._hidden = [torch.empty(2, size, width) for width in stacked.hidden_sizes]  # after the ReLU
        self._hidden_grad = [torch.empty(2, size, width) for width in stacked.hidden_sizes]
        self._hidden_np = [(h[0].numpy(), h[1].numpy()) for h in self._hidden]
        self._hidden_grad_np = [(g[0].numpy(), g[1].numpy()) for g in self._hidden_grad]
        self._hidden_grad_THB = [g.transpose(1, 2) for g in self._hidden_grad]
        self._weight_TIH = [w.transpose(1, 2) for w in self._parameters.weight_THI]
        self._bias_gradients = [(b[0, 0].numpy(), b[1, 0].numpy()) for b in self._gradients.bias_T1H]
        first = self._gradients.weight_THI[0]
        is_narrow = first.shape[2] < _MIN_INPUTS_FOR_TORCH
        self._first_gradients = (first[0].numpy(), first[1].numpy()) if is_narrow else None
        self._ones_B = np.ones(size, dtype=np.float32)
        self.output_BK: Float32 = np.empty((size, stacked.outputs), dtype=np.float32)
        self.value_B1: Float32 = np.empty((size, 1), dtype=np.float32)
        self.output_grad_BK: Float32 = np.empty_like(self.output_BK)  #: fill it before `backward`
        self.value_grad_B1: Float32 = np.empty_like(self.value_B1)  #: fill it before `backward`

    def forward(self, observation_BO: Tensor) -> None:
        """Fill `output_BK` and `value_B1`."""
        parameters = self._parameters
        layer = observation_BO.expand(2, *observation_BO.shape)
        for bias, weight, hidden in zip(parameters.bias_T1H, self._weight_TIH, self._hidden, strict=True):
            torch.baddbmm(bias, layer, weight, out=hidden)
            layer = hidden.relu_()
        policy_BH, value_BH = self._hidden_np[-1]
        np.dot(policy_BH, parameters.policy_weight.T, out=self.output_BK)
        np.add(self.output_BK, parameters.policy_bias, out=self.output_BK)
        np.dot(value_BH, parameters.value_weight.T, out=self.value_B1)
        np.add(self.value_B1, parameters.value_bias, out=self.value_B1)

    def backward(self, observation_BO: Tensor) -> None:
        """Write the gradient of every weight and bias, given the last `forward` and the gradients of its results."""
        parameters, gradients, ones_B = self._parameters, self._gradients, self._ones_B
        policy_BH, value_BH = self._hidden_np[-1]
        np.dot(self.output_grad_BK.T, policy_BH, out=gradients.policy_weight)
        np.dot(ones_B, self.output_grad_BK, out=gradients.policy_bias)
        np.dot(self.value_grad_B1.T, value_BH, out=gradients.value_weight)
        np.dot(ones_B, self.value_grad_B1, out=gradients.value_bias)
        policy_grad_BH, value_grad_BH = self._hidden_grad_np[-1]
        np.dot(self.output_grad_BK, parameters.policy_weight, out=policy_grad_BH)
        np.dot(self.value_grad_B1, parameters.value_weight, out=value_grad_BH)
        for i in range(len(self._hidden) - 1, -1, -1):
            hidden_grad = self._hidden_grad[i]
            private_torch.relu_backward_(hidden_grad, self._hidden[i], 0, grad_input=hidden_grad)
            for stack in (0, 1):
                np.dot(ones_B, self._hidden_grad_np[i][stack], out=self._bias_gradients[i][stack])
            if i:
                torch.bmm(self._hidden_grad_THB[i], self._hidden[i - 1], out=gradients.weight_THI[i])
                torch.bmm(hidden_grad, parameters.weight_THI[i], out=self._hidden_grad[i - 1])
            else:
                self._write_first_layer(observation_BO)

    def _write_first_layer(self, observation_BO: Tensor) -> None:
        if self._first_gradients is None:
            inputs = observation_BO.expand(2, *observation_BO.shape)
            torch.bmm(self._hidden_grad_THB[0], inputs, out=self._gradients.weight_THI[0])
            return
        inputs_BI = observation_BO.numpy()
        for grad_BH, gradient in zip(self._hidden_grad_np[0], self._first_gradients, strict=True):
            np.dot(grad_BH.T, inputs_BI, out=gradient)
