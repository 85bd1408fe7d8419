"""TD3 on replay data (Fujimoto, van Hoof and Meger 2018, arXiv:1802.09477, algorithm 1), without autograd.

The policy that engines run, tanh(mean) plus a normal of a fixed deviation, clamped, is TD3's behaviour policy: the
published deviation is its exploration noise. Differences from the paper:

- The critics have layer normalisation, and values in the units of the return normaliser.
- Targets use the present policy, not a target policy.
- A mean outside an action's bounds counts as at the bound, as in the engine. Its gradient is 0 if it points further
  outside (as in Hausknecht and Stone 2016, arXiv:1511.04143, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from schemas.contract import ContinuousActions
from trainer.networks.network import ActorCritic, Network
from trainer.off_policy.critics import CriticPass
from trainer.off_policy.replay import ReplayBatch
from trainer.off_policy.state import CriticsState
from trainer.off_policy.update import Errors, OffPolicyUpdater

TARGET_NOISE = 0.2
"""Standard deviation of the noise on the next action, "target policy smoothing"."""
TARGET_NOISE_LIMIT = 0.5
EXPLORATION_DECAY = 0.8
"""Of the noise's deviation, from cycle to cycle. With little noise at once, a policy stays slow but safe."""


class Td3Updater(OffPolicyUpdater):
    """TD3 for continuous actions."""

    def __init__(
        self, network: ActorCritic, state: CriticsState, space: ContinuousActions, *, device: torch.device
    ) -> None:
        super().__init__(network, state, device=device)
        self.noise_width = len(space.names)
        self._first = CriticPass(self.critics, 1)
        self._low, self._high = (torch.tensor(bounds, device=device) for bounds in (space.low, space.high))

    def errors(self, batch: ReplayBatch, noise_BA: Tensor, values: CriticPass, next_values: CriticPass) -> Errors:
        """Return value - (reward + discount * the lowest target critic's value of the smoothed next action) [E, B]."""
        smoothing_BA = (noise_BA * TARGET_NOISE).clamp_(-TARGET_NOISE_LIMIT, TARGET_NOISE_LIMIT)
        mean_BA = self.policy.policy(self.observations(batch.next_input_BI)).tanh_()
        batch.next_input_BI[:, -self.noise_width :] = self._clamped(smoothing_BA.add_(mean_BA))
        next_value_B = next_values.forward(batch.next_input_BI)[:, :, 0].amin(dim=0)
        target_B = batch.reward_B + batch.discount_B * next_value_B
        return Errors(values.forward(batch.input_BI)[:, :, 0] - target_B, target_B)

    def value_gradient(self, batch: ReplayBatch, error_grad_EB: Tensor) -> Tensor:
        """Return the derivative by the critics' values [E, B, 1]: each has one value per row."""
        del batch
        return error_grad_EB.unsqueeze(2)

    def improve_policy(self, batch: ReplayBatch) -> Tensor:
        """Follow the gradient of the first critic by the policy's action (eq. 15 of Silver et al. 2014, "DPG")."""
        observation_BO = self.observations(batch.input_BI)
        mean_BA = self.policy.policy(observation_BO).tanh_()
        batch.input_BI[:, -self.noise_width :] = self._clamped(mean_BA)
        value_B1 = self._first.forward(batch.input_BI)[0]
        action_grad_BA = self._first.action_gradient(torch.ones_like(value_B1).unsqueeze(0), self.noise_width)
        leaves_BA = ((mean_BA > self._high) & (action_grad_BA > 0)) | ((mean_BA < self._low) & (action_grad_BA < 0))
        action_grad_BA.masked_fill_(leaves_BA, 0.0)
        output_grad_BA = action_grad_BA * (mean_BA.square() - 1.0) / len(mean_BA)  # of the loss -Q
        self.fit_values(observation_BO, value_B1)
        self.policy.backward(output_grad_BA)
        return -value_B1.mean()

    def _clamped(self, action_BA: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(action_BA, self._low), self._high)


@torch.no_grad()
def decay_exploration(network: Network, factor: float, *, least: float) -> None:
    """Multiply the deviation of the noise that the policy publishes by a factor, but not below `least`, in place."""
    network.action_log_std.copy_((network.action_log_std.exp() * factor).clamp_(min=least).log_())
    network.clamp_log_std()
