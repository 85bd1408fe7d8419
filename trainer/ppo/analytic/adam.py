"""Adam on one flat vector, with the gradient's norm clipped in the same pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.networks.network import ActorCritic
from trainer.ppo.analytic import private_torch
from trainer.ppo.analytic.network import FlatParameters
from trainer.ppo.update import UpdateConfig, make_adam

_CLIP_EPS = 1e-6
"""As in torch.nn.utils.clip_grad_norm_."""


class FlatAdam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) with the norm of the whole gradient clipped before
    (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).

    The moments are flat vectors. torch's optimizer holds views of them, so a checkpoint has torch's layout.
    """

    def __init__(
        self, flat: FlatParameters, network: ActorCritic, config: UpdateConfig, moments: dict[str, Any]
    ) -> None:
        self._optimizer = make_adam(network, config.learning_rate, moments)
        first, second, step = torch.zeros_like(flat.vector), torch.zeros_like(flat.vector), torch.zeros(())
        self._state_tensors = (flat.vector, first, second, step)
        for parameter, mean, square in zip(flat.ordered, flat.views(first), flat.views(second), strict=True):
            state = self._optimizer.state.get(parameter)
            if state:
                mean.copy_(state["exp_avg"])
                square.copy_(state["exp_avg_sq"])
                step.copy_(state["step"])
            if parameter.numel():
                self._optimizer.state[parameter] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        self._step = step.numpy()
        self._grad_scale, self._found_inf = torch.ones(()), torch.zeros(())
        self._grad_scale_np = self._grad_scale.numpy()
        self._max_norm = config.max_grad_norm
        group = self._optimizer.param_groups[0]
        beta1, beta2 = group["betas"]
        self._flat, self._moments, self._step_tensor = flat, (first, second), step
        self.set_trains_policy(config.trains_policy)
        self._options = {"lr": group["lr"], "beta1": beta1, "beta2": beta2, "eps": group["eps"]}

    def set_trains_policy(self, trains_policy: bool) -> None:
        """Change all parameters from the next step on, or only those of the value stack."""
        part = slice(None) if trains_policy else self._flat.value_part
        self._gradient = self._flat.gradient[part].numpy()
        vectors = (self._flat.vector, self._flat.gradient, *self._moments)
        self._lists: list[list[Tensor]] = [*([vector[part]] for vector in vectors), [], [self._step_tensor]]

    def step(self) -> float:
        """Change the parameters by one step; return the gradient's norm before clipping."""
        norm = math.sqrt(np.dot(self._gradient, self._gradient))
        self._grad_scale_np[...] = max(1.0, (norm + _CLIP_EPS) / self._max_norm)  # gradients are divided by it
        self._step += 1.0
        private_torch.fused_adam_(
            *self._lists,
            **self._options,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
            grad_scale=self._grad_scale,
            found_inf=self._found_inf,
        )
        return norm

    def set_learning_rate(self, learning_rate: float) -> None:
        """Use this learning rate from the next step on."""
        self._options["lr"] = self._optimizer.param_groups[0]["lr"] = learning_rate

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict in torch's layout. The next step changes its tensors."""
        return self._optimizer.state_dict()

    def copy_state(self) -> list[Tensor]:
        """Return copies of everything that a step changes: parameters, moments and the number of steps."""
        return [tensor.clone() for tensor in self._state_tensors]

    def restore_state(self, copies: list[Tensor]) -> None:
        """Undo the steps since `copy_state`."""
        for tensor, copied in zip(self._state_tensors, copies, strict=True):
            tensor.copy_(copied)
