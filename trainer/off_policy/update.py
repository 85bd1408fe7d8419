"""Gradient steps on replay data: the part that TD3 and its sibling for choices share.

Each step fits the critics to bootstrapped targets. Each second one also improves the policy, fits the value network
to what the critics say of the policy (engines and PPO use it), and moves the target critics (Polyak averaging).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.common.rng import rng_for
from trainer.common.shapes import Float64
from trainer.networks.network import ActorCritic
from trainer.off_policy.critics import CriticPass
from trainer.off_policy.policy_pass import PolicyPass
from trainer.off_policy.replay import Replay, ReplayBatch
from trainer.off_policy.state import CriticsState, Moments

BATCH_SIZE = 256
LEARNING_RATE = 1e-3
TARGET_RATE = 0.005
"""Part of the way that the target critics move (tau of Fujimoto et al. 2018)."""
POLICY_DELAY = 2
"""Steps of the critics for each of the policy (d of Fujimoto et al. 2018)."""
_BLOCK = 64
"""Steps whose random numbers are drawn together."""
_HELD_OUT_ROWS = 4096
"""Held-out transitions that are evaluated together."""
_BLOCK_ROWS = 32
_LEAST_VARIANCE = 1e-12


class Errors(NamedTuple):
    """Of a batch, in the units of the return normaliser."""

    error_EB: Tensor  #: value minus target
    target_B: Tensor


@dataclass(frozen=True, slots=True)
class HeldOutLoss:
    """The critics' error on held-out transitions, and its standard error, as parts of the targets' variance."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, square_B: Float64, variance: float) -> HeldOutLoss:
        """Return the loss of squared errors, in the order of time.

        Steps that follow each other are alike, so the standard error is that of the means of blocks.
        """
        blocks = np.array_split(square_B, max(2, len(square_B) // _BLOCK_ROWS))
        means = np.array([block.mean() for block in blocks if len(block)])
        scale = max(variance, _LEAST_VARIANCE)
        return cls(float(square_B.mean()) / scale, float(means.std(ddof=1) / np.sqrt(len(means))) / scale)


class OffPolicyUpdater(ABC):
    """Critics, policy and optimizers on one device. A subclass defines what an action is."""

    noise_width: int  #: normal random numbers that each row of a step needs

    def __init__(self, network: ActorCritic, state: CriticsState, *, device: torch.device) -> None:
        self.network, self.device = network.to(device), device
        self.critics, self.targets = state.critics.to(device), state.targets.to(device)
        self.temperature = torch.tensor(state.temperature, device=device)
        self.policy = PolicyPass(self.network)
        self._values, self._next_values = CriticPass(self.critics), CriticPass(self.targets)
        self._gradient = torch.zeros_like(self.critics.vector)
        self._critic_adam = _adam(self.critics.vector, self._gradient, state.moments.critics)
        self._policy_adam = _adam(self.policy.vector, self.policy.gradient, state.moments.policy)
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
    def improve_policy(self, batch: ReplayBatch, values: CriticPass) -> Tensor:
        """Write the gradients of policy and value network; return the policy's loss (), normalised units."""

    def state(self) -> CriticsState:
        """Return the critics and the optimizers. The next step changes their tensors."""
        moments = Moments(_state_of(self._critic_adam), _state_of(self._policy_adam))
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
        for rows_B, noise_BA in self._draws(replay, steps, rng_for(seed, "off-policy", cycle, epoch)):
            batch = replay.batch(rows_B)
            error_EB = self.errors(batch, noise_BA, self._values, self._next_values).error_EB
            self._values.backward(self.value_gradient(batch, error_EB * (2.0 / len(rows_B))), self._gradient)
            self._critic_adam.step()
            critic_loss += error_EB.square().mean()
            self._steps += 1
            if self._steps % POLICY_DELAY == 0:
                if not is_policy_fixed:
                    policy_loss += self.improve_policy(batch, self._values)
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
            squares.append(errors.error_EB.square().mean(dim=0).double().cpu())
            targets.append(errors.target_B.double().cpu())
        return HeldOutLoss.of(torch.cat(squares).numpy(), float(torch.cat(targets).var(correction=0)))

    def _draws(self, replay: Replay, steps: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows of the replay [B] and noise [B, A] for each step; the same numbers on every device."""
        rows_N = torch.nonzero(~replay.is_held_out_N)[:, 0]
        for start in range(0, steps, _BLOCK):
            count = min(_BLOCK, steps - start)
            picks = rows_N[torch.randint(len(rows_N), (count, BATCH_SIZE), generator=rng)]
            noise = torch.randn(count, BATCH_SIZE, self.noise_width, generator=rng)
            yield from zip(picks.to(self.device), noise.to(self.device), strict=True)


def _adam(vector: Tensor, gradient: Tensor, moments: dict[str, Any] | None) -> torch.optim.Adam:
    """Return Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) over one vector, as one fused kernel."""
    parameter = torch.nn.Parameter(vector, requires_grad=False)
    parameter.grad = gradient
    adam = torch.optim.Adam([parameter], lr=LEARNING_RATE, fused=True)
    if moments:
        state = {name: tensor.to(vector.device, copy=True) for name, tensor in moments.items()}
        adam.load_state_dict({"state": {0: state}, "param_groups": adam.state_dict()["param_groups"]})
    return adam


def _state_of(adam: torch.optim.Adam) -> dict[str, Any] | None:
    state: dict[int, dict[str, Any]] = adam.state_dict()["state"]
    return state.get(0)
