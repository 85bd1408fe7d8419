"""The critics: Q networks of one shape, as one batched product per layer, with written-out derivatives.

Each hidden layer is relu(LN(W x + b)). Layer normalisation without gain and bias keeps the values of actions that no
rollout contains bounded (Ball et al. 2023, "RLPD", arXiv:2302.02948, section 4.2). The first layer takes normalised
observations, then what only critics see (`trainer.networks.critic_inputs`), then actions. Values are in the units of
the return normaliser.

Letters besides those of trainer.common.shapes:
E critics    I inputs (O, V, A)    H outputs of a hidden layer    K values per row: 1, or one for each choice
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from trainer.common.rng import rng_for
from trainer.networks.critic_inputs import CriticInputs
from trainer.networks.normaliser import ObservationNormaliser, ReturnNormaliser

_LAYER_NORM_EPS = 1e-5
_HEAD_GAIN = 0.01
"""Small, so that the first values are the average return."""


class Critics:
    """The parameters of E critics in one vector; `CriticPass` computes with them."""

    def __init__(self, count: int, sizes: tuple[int, ...], vector: Tensor | None = None) -> None:
        """Make critics with these layer sizes, from I to K. Without their vector of parameters, all of them are 0."""
        self.count, self.sizes = count, sizes
        shapes = list(itertools.pairwise(sizes))
        self._numbers = [count * number for i, o in shapes for number in (i * o, o)]
        self._shapes = [shape for i, o in shapes for shape in ((count, i, o), (count, 1, o))]
        self.vector = torch.zeros(sum(self._numbers)) if vector is None else vector
        self.weights_EIH, self.biases_E1H = self.views(self.vector)

    @classmethod
    def initial(cls, count: int, sizes: tuple[int, ...], *, seed: int) -> Critics:
        """Return critics with orthogonal weights (Saxe et al. 2014, arXiv:1312.6120), each with its own."""
        critics, rng = cls(count, sizes), rng_for(seed, "critics")
        for index, weight_EIH in enumerate(critics.weights_EIH):
            gain = math.sqrt(2.0) if index < len(sizes) - 2 else _HEAD_GAIN
            for weight_IH in weight_EIH:
                weight_IH.copy_(torch.nn.init.orthogonal_(torch.empty_like(weight_IH), gain, generator=rng))
        return critics

    def views(self, vector: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the weights and the biases in a vector of this layout, as views."""
        parts = torch.split(vector, self._numbers)
        views = [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return views[::2], views[1::2]

    def copy(self) -> Critics:
        """Return critics with the same parameters in another vector."""
        return Critics(self.count, self.sizes, self.vector.clone())

    def to(self, device: torch.device) -> Critics:
        """Return the critics on a device: these ones if they are there already."""
        return Critics(self.count, self.sizes, self.vector.to(device))

    def rescale_inputs(self, before: ObservationNormaliser, after: ObservationNormaliser) -> None:
        """Change the first layer for new statistics, in place; see `trainer.networks.normaliser.rescale_inputs`."""
        bias_E1H, weight_EOH = self.biases_E1H[0], self.weights_EIH[0][:, : len(before.mean_O)]
        bias_E1H.copy_(bias_E1H.double() + _rescaled(weight_EOH, before, after).unsqueeze(1))

    def rescale_critic_inputs(self, before: CriticInputs, after: CriticInputs, *, first: int) -> None:
        """Change the first layer for new statistics of critic observations, which are its inputs from `first` on.

        Rows without critic observations have 0 in the column that states whether they are known: the column's weights
        take up the shift of the means, and not the bias, so that the values of these rows do not change either.
        """
        if before.width:
            weight_EIH = self.weights_EIH[0]
            end = first + before.width
            shift_EH = _rescaled(weight_EIH[:, first:end], before.normaliser, after.normaliser)
            weight_EIH[:, end].copy_(weight_EIH[:, end].double() + shift_EH)

    def rescale_values(self, before: ReturnNormaliser, after: ReturnNormaliser) -> None:
        """Change the last layer for new statistics, in place; see `trainer.networks.normaliser.popart`."""
        weight, bias = self.weights_EIH[-1], self.biases_E1H[-1]
        weight.mul_(before.std / after.std)
        bias.copy_((bias.double() * before.std + (before.mean - after.mean)) / after.std)

    def document(self) -> dict[str, Any]:
        """Return the tensors and plain values for a checkpoint."""
        return {"count": self.count, "sizes": list(self.sizes), "vector": self.vector}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Critics:
        """Return the critics of a `document`. Raises KeyError, TypeError, ValueError or RuntimeError."""
        return cls(int(document["count"]), tuple(int(size) for size in document["sizes"]), document["vector"].clone())


def _rescaled(weight_EOH: Tensor, before: ObservationNormaliser, after: ObservationNormaliser) -> Tensor:
    """Change the weights of inputs in place; return what must be added to the outputs, float64 [E, H]."""
    ratio_O = (after.scale_O / before.scale_O).to(weight_EOH.device)
    shift_O = ((after.mean_O - before.mean_O) / before.scale_O).to(weight_EOH.device)
    shift_EH = torch.einsum("o,eoh->eh", shift_O, weight_EOH.double())
    weight_EOH.copy_(weight_EOH.double() * ratio_O[:, None])
    return shift_EH


class CriticPass:
    """Forward and backward through critics, or through the first `count` of them."""

    def __init__(self, critics: Critics, count: int | None = None) -> None:
        self._count = count or critics.count
        self._weights = [weight[: self._count] for weight in critics.weights_EIH]
        self._biases = [bias[: self._count] for bias in critics.biases_E1H]
        self._transposed = [weight.transpose(1, 2) for weight in self._weights]
        # Gains of 1 and biases of 0: torch takes almost twice as long without them.
        self._gain_bias = [(torch.ones_like(b[0, 0]), torch.zeros_like(b[0, 0])) for b in self._biases[:-1]]
        self._inputs: list[Tensor] = []  # of each layer [E, B, I]
        self._linear: list[Tensor] = []  # outputs of the hidden layers before normalisation
        self._statistics: list[tuple[Tensor, Tensor]] = []  # mean and 1 / deviation of each row of them

    def forward(self, input_BI: Tensor) -> Tensor:
        """Return the values [E, B, K]."""
        layer = input_BI.expand(self._count, *input_BI.shape)
        self._inputs, self._linear, self._statistics = [], [], []
        for weight, bias, (gain, shift) in zip(self._weights, self._biases, self._gain_bias, strict=False):
            self._inputs.append(layer)
            linear = torch.baddbmm(bias, layer, weight)
            normal, mean, rstd = torch.native_layer_norm(linear, linear.shape[2:], gain, shift, _LAYER_NORM_EPS)
            self._linear.append(linear)
            self._statistics.append((mean, rstd))
            layer = normal.relu_()
        self._inputs.append(layer)
        return _times(layer, self._weights[-1]).add_(self._biases[-1])

    def backward(self, value_grad_EBK: Tensor, weights: list[Tensor], biases: list[Tensor]) -> None:
        """Write the gradient of every parameter, given the last `forward` of all critics and its derivative.

        `weights` and `biases` are views of the gradient, as `Critics.views` returns them.
        """
        grad = value_grad_EBK
        for index in range(len(weights) - 1, -1, -1):
            if index < len(self._linear):
                grad = self._through_activation(grad, index)
            if grad.shape[2] == 1:
                torch.sum(self._inputs[index] * grad, dim=1, out=weights[index][:, :, 0])
            else:
                torch.bmm(self._inputs[index].transpose(1, 2), grad, out=weights[index])
            torch.sum(grad, dim=1, keepdim=True, out=biases[index])
            if index:
                grad = _times(grad, self._transposed[index])

    def action_gradient(self, value_grad_EBK: Tensor, actions: int) -> Tensor:
        """Return the derivative by the last `actions` inputs [B, A], given the last `forward`, summed over critics."""
        grad = value_grad_EBK
        for index in range(len(self._linear), 0, -1):
            grad = self._through_activation(_times(grad, self._transposed[index]), index - 1)
        return torch.bmm(grad, self._transposed[0][:, :, -actions:]).sum(dim=0)

    def _through_activation(self, grad_EBH: Tensor, index: int) -> Tensor:
        """Return the derivative by the linear output of a hidden layer, given that by the layer's result."""
        linear, (mean, rstd), (gain, shift) = self._linear[index], self._statistics[index], self._gain_bias[index]
        grad_EBH = torch.ops.aten.threshold_backward(grad_EBH, self._inputs[index + 1], 0)
        result: Tensor = torch.ops.aten.native_layer_norm_backward(
            grad_EBH, linear, linear.shape[2:], mean, rstd, gain, shift, [True, False, False]
        )[0]
        return result


def _times(left_EBI: Tensor, right_EIH: Tensor) -> Tensor:
    """Return the product of each pair of matrices; those of one column or row take a fifth of the time of bmm."""
    if left_EBI.shape[2] == 1:
        return left_EBI * right_EIH
    if right_EIH.shape[2] == 1:
        return (left_EBI * right_EIH.transpose(1, 2)).sum(dim=2, keepdim=True)
    return torch.bmm(left_EBI, right_EIH)
