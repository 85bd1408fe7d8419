"""Discrete soft actor-critic: TD3's sibling for choices (Christodoulou 2019, arXiv:1910.07207).

The engine draws a choice from the policy's probabilities, so the policy's entropy is its exploration. The temperature
keeps the entropy at a given part of that of equal probabilities. Expectations over the choices are exact sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.networks.network import ActorCritic
from trainer.off_policy.critics import CriticPass
from trainer.off_policy.replay import ReplayBatch
from trainer.off_policy.state import CriticsState
from trainer.off_policy.update import Errors, OffPolicyUpdater

ENTROPY_SHARE = 0.3
"""The entropy that the temperature aims at, as a part of that of equal probabilities."""
TEMPERATURE_RATE = 3e-3


class SoftChoiceUpdater(OffPolicyUpdater):
    """Soft actor-critic for one action of several choices."""

    noise_width = 0

    def __init__(self, network: ActorCritic, state: CriticsState, *, device: torch.device) -> None:
        super().__init__(network, state, device=device)
        self._entropy = ENTROPY_SHARE * math.log(network.shape.outputs)

    def errors(self, batch: ReplayBatch, noise_BA: Tensor, values: CriticPass, next_values: CriticPass) -> Errors:
        """Return value - (reward + discount * soft value of the next state) [E, B] (eq. 3 of the paper)."""
        del noise_BA
        log_p_BK = self.policy.policy(self.observations(batch.next_input_BI)).log_softmax(dim=1)
        lowest_BK = next_values.forward(batch.next_input_BI).amin(dim=0)
        next_value_B = (log_p_BK.exp() * (lowest_BK - self.temperature * log_p_BK)).sum(dim=1)
        target_B = batch.reward_B + batch.discount_B * next_value_B
        value_EBK = values.forward(batch.input_BI)
        return Errors(value_EBK.gather(2, self._index(batch, len(value_EBK)))[:, :, 0] - target_B, target_B)

    def value_gradient(self, batch: ReplayBatch, error_grad_EB: Tensor) -> Tensor:
        """Return the derivative by the critics' values [E, B, K]: 0 for the choices that were not made."""
        shape = (*error_grad_EB.shape, self.network.shape.outputs)
        grad_EBK = torch.zeros(shape, device=self.device)
        return grad_EBK.scatter_(2, self._index(batch, len(grad_EBK)), error_grad_EB.unsqueeze(2))

    def improve_policy(self, batch: ReplayBatch) -> Tensor:
        """Lower the mean of sum p (temperature log p - Q) (eq. 12 of the paper), and adapt the temperature."""
        observation_BO = self.observations(batch.input_BI)
        log_p_BK = self.policy.policy(observation_BO).log_softmax(dim=1)
        p_BK = log_p_BK.exp()
        lowest_BK = self.values.forward(batch.input_BI).amin(dim=0)
        cost_BK = self.temperature * log_p_BK - lowest_BK
        loss_B1 = (p_BK * cost_BK).sum(dim=1, keepdim=True)
        output_grad_BK = p_BK * (cost_BK - loss_B1) / len(p_BK)
        self.fit_values(observation_BO, (p_BK * lowest_BK).sum(dim=1, keepdim=True))
        self.policy.backward(output_grad_BK)
        entropy = -(p_BK * log_p_BK).sum(dim=1).mean()
        self.temperature *= (TEMPERATURE_RATE * (self._entropy - entropy)).exp()
        return loss_B1.mean()

    @staticmethod
    def _index(batch: ReplayBatch, critics: int) -> Tensor:
        return batch.choice_B.view(1, -1, 1).expand(critics, -1, 1)
