"""torch's fused Adam on one flat vector, with the gradient's norm clipped in the same pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.networks.network import ActorCritic
from trainer.ppo.analytic.network import FlatParameters
from trainer.ppo.update import UpdateConfig, make_adam

_CLIP_EPS = 1e-6
"""As in torch.nn.utils.clip_grad_norm_."""


class FlatAdam:
    """The optimizer's state lies in views of flat vectors, so that checkpoints look as ever."""

    def __init__(
        self, flat: FlatParameters, network: ActorCritic, config: UpdateConfig, moments: dict[str, Any]
    ) -> None:
        self._optimizer = make_adam(network, config.learning_rate, moments)
        first, second, step = torch.zeros_like(flat.vector), torch.zeros_like(flat.vector), torch.zeros(())
        self._changing = (flat.vector, first, second, step)
        for parameter, mean, square in zip(flat.ordered, flat.views(first), flat.views(second), strict=True):
            state = self._optimizer.state.get(parameter)
            if state:
                mean.copy_(state["exp_avg"])
                square.copy_(state["exp_avg_sq"])
                step.copy_(state["step"])
            if parameter.numel():
                self._optimizer.state[parameter] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        self._gradient, self._step = flat.gradient.numpy(), step.numpy()
        self._divisor, self._none_found = torch.ones(()), torch.zeros(())
        self._divisor_np = self._divisor.numpy()
        self._max_norm = config.max_grad_norm
        group = self._optimizer.param_groups[0]
        beta1, beta2 = group["betas"]
        lists: list[list[Tensor]] = [[flat.vector], [flat.gradient], [first], [second], [], [step]]
        self._lists = lists
        self._options = {"lr": group["lr"], "beta1": beta1, "beta2": beta2, "eps": group["eps"]}

    def step(self) -> float:
        """Move the parameters; give the gradient's norm before clipping."""
        norm = math.sqrt(np.dot(self._gradient, self._gradient))
        self._divisor_np[...] = max(1.0, (norm + _CLIP_EPS) / self._max_norm)
        self._step += 1.0
        torch._fused_adam_(
            *self._lists,
            **self._options,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
            grad_scale=self._divisor,
            found_inf=self._none_found,
        )
        return norm

    def set_rate(self, learning_rate: float) -> None:
        """Take this step size from the next step on."""
        self._options["lr"] = self._optimizer.param_groups[0]["lr"] = learning_rate

    def state_dict(self) -> dict[str, Any]:
        """Return torch's Adam state; its tensors change with the next step."""
        return self._optimizer.state_dict()

    def keep(self) -> list[Tensor]:
        """Copy all that a step changes: parameters, moments, count."""
        return [tensor.clone() for tensor in self._changing]

    def put_back(self, kept: list[Tensor]) -> None:
        """Undo the steps since `keep`."""
        for tensor, old in zip(self._changing, kept, strict=True):
            tensor.copy_(old)
