"""The built-in network as one vector of parameters, its forward pass and its derivatives written out.

Policy and value stack have the same hidden sizes, so each pair of layers is one batched matrix product. Every buffer is
made once for a minibatch size. Wide products go through torch; the heads are too narrow for its BLAS and go through
numpy's. What is computed is what autograd computes, up to the order of additions; the tests hold the two together.

Letters beside those of trainer.common.shapes: T the two stacks (policy, value)    I inputs, H outputs of a hidden layer
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.networks.network import ActorCritic

_NARROW = 32
"""Inputs below which the first layer's gradient is two products in numpy: torch's BLAS is slow for a few columns."""

_relu_backward_ = torch.ops.aten.threshold_backward.grad_input


class FlatParameters:
    """The network's parameters moved into one vector, and a second vector of the same layout for their gradient.

    The network goes on as before: its parameters are views of the vector.
    """

    def __init__(self, network: ActorCritic) -> None:
        stacks = network.stacks()
        self.ordered: list[Tensor] = []
        for stack in (stacks.policy, stacks.value):
            for layer in stack:
                self.ordered += [layer.weight, layer.bias]
        self.ordered.append(network.action_log_std)
        self.sizes = [parameter.numel() for parameter in self.ordered]
        self.vector = torch.cat([parameter.detach().reshape(-1) for parameter in self.ordered])
        self.gradient = torch.zeros_like(self.vector)
        for parameter, view in zip(self.ordered, self.views(self.vector), strict=True):
            parameter.data = view

    def views(self, vector: Tensor) -> list[Tensor]:
        """Split a vector of this layout into the parameters' shapes."""
        parts = torch.split(vector, self.sizes)
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.ordered, strict=True)]


class _Pairs:
    """One vector (parameters or gradients) as pairs of hidden layers, two heads and `action_log_std`."""

    def __init__(self, flat: FlatParameters, vector: Tensor, hidden_layers: int) -> None:
        views = flat.views(vector)
        per_stack = 2 * (hidden_layers + 1)
        self.weight_THI = [_pair(vector, views, 2 * i, per_stack) for i in range(hidden_layers)]
        self.bias_T1H = [_pair(vector, views, 2 * i + 1, per_stack).unsqueeze(1) for i in range(hidden_layers)]
        self.policy_weight, self.policy_bias = (v.numpy() for v in views[per_stack - 2 : per_stack])
        self.value_weight, self.value_bias = (v.numpy() for v in views[2 * per_stack - 2 : 2 * per_stack])
        self.log_std_A: Float32 = views[-1].numpy()


def _pair(vector: Tensor, views: list[Tensor], index: int, per_stack: int) -> Tensor:
    """Return the same layer of both stacks as one tensor with a leading axis of 2, without copying."""
    policy, value = views[index], views[index + per_stack]
    apart = value.storage_offset() - policy.storage_offset()
    return vector.as_strided((2, *policy.shape), (apart, *policy.stride()), policy.storage_offset())


class StackedNetwork:
    """Parameters and gradients of the two stacks, by layer."""

    def __init__(self, network: ActorCritic) -> None:
        self.flat = FlatParameters(network)
        self.hidden_sizes = network.shape.hidden_sizes
        self.outputs = network.shape.outputs
        self.parameters = _Pairs(self.flat, self.flat.vector, len(self.hidden_sizes))
        self.gradients = _Pairs(self.flat, self.flat.gradient, len(self.hidden_sizes))


class StackedPass:
    """Forward and backward through both stacks for minibatches of one size."""

    def __init__(self, stacked: StackedNetwork, size: int) -> None:
        self._own, self._grad = stacked.parameters, stacked.gradients
        self._size = size
        self._hidden = [torch.empty(2, size, width) for width in stacked.hidden_sizes]
        self._slope = [torch.empty(2, size, width) for width in stacked.hidden_sizes]  # of the loss, by hidden outputs
        self._hidden_np = [(h[0].numpy(), h[1].numpy()) for h in self._hidden]
        self._slope_np = [(d[0].numpy(), d[1].numpy()) for d in self._slope]
        self._slope_THB = [d.transpose(1, 2) for d in self._slope]
        self._weight_TIH = [w.transpose(1, 2) for w in self._own.weight_THI]
        self._bias_gradients = [(b[0, 0].numpy(), b[1, 0].numpy()) for b in self._grad.bias_T1H]
        first = self._grad.weight_THI[0]
        self._first_gradients = (first[0].numpy(), first[1].numpy()) if first.shape[2] < _NARROW else None
        self._ones_B = np.ones(size, dtype=np.float32)
        self.output_BK: Float32 = np.empty((size, stacked.outputs), dtype=np.float32)
        self.value_B1: Float32 = np.empty((size, 1), dtype=np.float32)
        self.output_slope_BK: Float32 = np.empty_like(self.output_BK)  #: d loss / d output: fill before `backward`
        self.value_slope_B1: Float32 = np.empty_like(self.value_B1)  #: likewise

    def forward(self, observation_BO: Tensor) -> None:
        """Fill `output_BK` and `value_B1`."""
        own = self._own
        layer = observation_BO.expand(2, *observation_BO.shape)
        for bias, weight, hidden in zip(own.bias_T1H, self._weight_TIH, self._hidden, strict=True):
            torch.baddbmm(bias, layer, weight, out=hidden)
            layer = hidden.relu_()
        policy_BH, value_BH = self._hidden_np[-1]
        np.dot(policy_BH, own.policy_weight.T, out=self.output_BK)
        np.add(self.output_BK, own.policy_bias, out=self.output_BK)
        np.dot(value_BH, own.value_weight.T, out=self.value_B1)
        np.add(self.value_B1, own.value_bias, out=self.value_B1)

    def backward(self, observation_BO: Tensor) -> None:
        """Write the gradient of every weight and bias, from the two slopes; `forward` of the same batch came before."""
        own, grad, ones_B = self._own, self._grad, self._ones_B
        policy_BH, value_BH = self._hidden_np[-1]
        np.dot(self.output_slope_BK.T, policy_BH, out=grad.policy_weight)
        np.dot(ones_B, self.output_slope_BK, out=grad.policy_bias)
        np.dot(self.value_slope_B1.T, value_BH, out=grad.value_weight)
        np.dot(ones_B, self.value_slope_B1, out=grad.value_bias)
        policy_slope, value_slope = self._slope_np[-1]
        np.dot(self.output_slope_BK, own.policy_weight, out=policy_slope)
        np.dot(self.value_slope_B1, own.value_weight, out=value_slope)
        for i in range(len(self._hidden) - 1, -1, -1):
            slope = self._slope[i]
            _relu_backward_(slope, self._hidden[i], 0, grad_input=slope)
            for stack in (0, 1):
                np.dot(ones_B, self._slope_np[i][stack], out=self._bias_gradients[i][stack])
            if i:
                torch.bmm(self._slope_THB[i], self._hidden[i - 1], out=grad.weight_THI[i])
                torch.bmm(slope, own.weight_THI[i], out=self._slope[i - 1])
            else:
                self._first_layer(observation_BO)

    def _first_layer(self, observation_BO: Tensor) -> None:
        if self._first_gradients is None:
            inputs = observation_BO.expand(2, *observation_BO.shape)
            torch.bmm(self._slope_THB[0], inputs, out=self._grad.weight_THI[0])
            return
        seen = observation_BO.numpy()
        for slope, gradient in zip(self._slope_np[0], self._first_gradients, strict=True):
            np.dot(slope.T, seen, out=gradient)
