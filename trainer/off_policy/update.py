"""Gradient steps on replay data: the part that TD3 and its sibling for choices share.

Each step fits the critics to bootstrapped targets. Each second one also improves the policy, fits the value network
to what the critics say of the policy (engines and PPO use it), and moves the target critics (Polyak averaging).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.common.rng import rng_for
from trainer.common.shapes import Float64
from trainer.networks.network import ActorCritic
from trainer.off_policy.adam import VectorAdam
from trainer.off_policy.critics import CriticPass
from trainer.off_policy.policy_pass import PolicyPass
from trainer.off_policy.replay import Replay, ReplayBatch
from trainer.off_policy.state import CriticsState, Moments

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
TARGET_RATE = 0.005
"""Part of the way that the target critics move (tau of Fujimoto et al. 2018)."""
POLICY_DELAY = 2
"""Steps of the critics for each of the policy (d of Fujimoto et al. 2018)."""
_BLOCK = 64
"""Steps whose transitions and noise are drawn together."""
_HELD_OUT_ROWS = 4096
"""Held-out transitions that are evaluated together."""
_VALUE_ROWS = 64
"""Rows of a batch that the value network is fitted to."""
_BLOCK_ROWS = 32
_LEAST_VARIANCE = 1e-12


class Errors(NamedTuple):
    """Of a batch, in the units of the return normaliser."""

    error_EB: Tensor  #: value minus target
    target_B: Tensor

    def within(self, low: Tensor, high: Tensor) -> Errors:
        """Return the errors with targets that are limited to a range."""
        limited_B = self.target_B.clamp(low, high)
        return Errors(self.error_EB + (self.target_B - limited_B), limited_B)


@dataclass(frozen=True, slots=True)
class HeldOutLoss:
    """The critics' error on held-out transitions, and its standard error, as parts of the targets' variance."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, square_B: Float64, variance: float) -> HeldOutLoss:
        """Return the loss of squared errors, in the order of time.

        Steps that follow each other are alike, so the standard error is that of the means of blocks. That of one step
        is not known; it is 0.
        """
        blocks = np.array_split(square_B, min(len(square_B), max(2, len(square_B) // _BLOCK_ROWS)))
        means = np.array([block.mean() for block in blocks])
        scale = max(variance, _LEAST_VARIANCE)
        error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0
        return cls(float(square_B.mean()) / scale, error / scale)


class OffPolicyUpdater(ABC):
    """Critics, policy and optimizers on one device. A subclass defines what an action is."""

    noise_width: int  #: normal random numbers that each row of a step needs

    def __init__(self, network: ActorCritic, state: CriticsState, *, device: torch.device) -> None:
        self.network, self.device = network.to(device), device
        self.critics, self.targets = state.critics.to(device), state.targets.to(device)
        self.temperature = torch.tensor(state.temperature, device=device)
        self.policy = PolicyPass(self.network)
        self.values, self._next_values = CriticPass(self.critics), CriticPass(self.targets)
        gradient = torch.zeros_like(self.critics.vector)
        self._gradient_views = self.critics.views(gradient)
        self._critic_adam = VectorAdam(self.critics.vector, gradient, LEARNING_RATE, state.moments.critics)
        self._policy_adam = VectorAdam(self.policy.vector, self.policy.gradient, LEARNING_RATE, state.moments.policy)
        self._inputs = state.inputs
        self._steps = 0

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all networks."""
        return self.critics.vector.numel() + self.policy.vector.numel()

    @abstractmethod
    def errors(self, batch: ReplayBatch, noise_BA: Tensor, values: CriticPass, next_values: CriticPass) -> Errors:
        """Return the critics' values of the batch minus their targets, and the targets."""

    @abstractmethod
    def value_gradient(self, batch: ReplayBatch, error_grad_EB: Tensor) -> Tensor:
        """Return the derivative by all the critics' values of the batch [E, B, K], given that by the errors."""

    @abstractmethod
    def improve_policy(self, batch: ReplayBatch) -> Tensor:
        """Write the gradients of policy and value network; return the policy's loss (), normalised units."""

    def fit_values(self, observation_BO: Tensor, target_B1: Tensor) -> None:
        """Write the gradient of the value network, on a part of the batch. It changes nothing that the policy learns.

        Engines may read it, and PPO continues with it.
        """
        some = max(1, len(target_B1) // _VALUE_ROWS)
        error_B1 = self.policy.value(observation_BO[::some]) - target_B1[::some]
        self.policy.backward_values(error_B1 * (2.0 / len(error_B1)))

    def state(self) -> CriticsState:
        """Return the critics and the optimizers. The next step changes their tensors."""
        moments = Moments(self._critic_adam.state(), self._policy_adam.state())
        temperature = float(self.temperature)
        return CriticsState(self.critics, self.targets, moments, temperature, is_new=False, inputs=self._inputs)

    def observations(self, input_BI: Tensor) -> Tensor:
        """Return what the policy sees of the critics' inputs, as a view [B, O]."""
        return input_BI[:, : self.network.shape.observation_size]

    @torch.no_grad()
    def run(
        self, replay: Replay, steps: int, *, seed: int, cycle: int, epoch: int, is_policy_fixed: bool = False
    ) -> dict[str, float]:
        """Take gradient steps; return the means of the losses, by name.

        The same seed, cycle and epoch draw the same transitions and noise. If the policy is fixed, only critics learn.
        """
        critic_loss, policy_loss = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        low, high = replay.target_range.unbind()
        for batch, noise_BA in self._draws(replay, steps, rng_for(seed, "off-policy", cycle, epoch)):
            errors = self.errors(batch, noise_BA, self.values, self._next_values)
            error_EB = errors.within(low, high).error_EB
            self.values.backward(self.value_gradient(batch, error_EB * (2.0 / BATCH_SIZE)), *self._gradient_views)
            self._critic_adam.step()
            critic_loss += error_EB.square().mean()
            self._steps += 1
            if self._steps % POLICY_DELAY == 0:
                if not is_policy_fixed:
                    policy_loss += self.improve_policy(batch)
                    self._policy_adam.step()
                self.targets.vector.lerp_(self.critics.vector, TARGET_RATE)
        return {
            "critic_loss": float(critic_loss) / max(1, steps),
            "policy_loss": float(policy_loss) / max(1, steps // POLICY_DELAY),
        }

    @torch.no_grad()
    def held_out_loss(self, replay: Replay, *, seed: int, cycle: int) -> HeldOutLoss:
        """Return the critics' mean squared error on the held-out transitions, as a part of the targets' variance.

        Values grow while critics learn, and the error with them. So errors in the units of the values cannot be
        compared between epochs.
        """
        rows = torch.nonzero(replay.is_held_out_N)[:, 0]
        noise = torch.randn(len(rows), self.noise_width, generator=rng_for(seed, "off-policy held out", cycle))
        values, next_values = CriticPass(self.critics), CriticPass(self.targets)
        squares, targets = [], []
        for rows_B, noise_BA in zip(torch.split(rows, _HELD_OUT_ROWS), torch.split(noise, _HELD_OUT_ROWS), strict=True):
            errors = self.errors(replay.batch(rows_B.to(self.device)), noise_BA.to(self.device), values, next_values)
            errors = errors.within(*replay.target_range.unbind())
            squares.append(errors.error_EB.square().mean(dim=0).double().cpu())
            targets.append(errors.target_B.double().cpu())
        return HeldOutLoss.of(torch.cat(squares).numpy(), float(torch.cat(targets).var(correction=0)))

    def _draws(self, replay: Replay, steps: int, rng: torch.Generator) -> Iterator[tuple[ReplayBatch, Tensor]]:
        """Yield a batch and noise [B, A] for each step; the same on every device."""
        rows_N = torch.nonzero(~replay.is_held_out_N)[:, 0]
        for start in range(0, steps, _BLOCK):
            rows = BATCH_SIZE * min(_BLOCK, steps - start)
            picks = rows_N[torch.randint(len(rows_N), (rows,), generator=rng)]
            noise = torch.randn(rows, self.noise_width, generator=rng).to(self.device)
            drawn = replay.batch(picks.to(self.device))
            columns = zip(*(torch.split(column, BATCH_SIZE) for column in drawn), strict=True)
            yield from zip(map(ReplayBatch._make, columns), torch.split(noise, BATCH_SIZE), strict=True)
