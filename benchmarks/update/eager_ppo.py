"""A plain PPO update as in single-file implementations: two networks, shuffled indices, autograd, Adam.

It already has the fused Adam, the foreach clipping, and no `.item()` in the loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions.normal import Normal

from schemas.model import LOG_STD_START
from schemas.settings.models import TrainerSettings


@dataclass(frozen=True, slots=True)
class Storage:
    """A rollout, flattened."""

    obs: Tensor  #: [n, O]
    actions: Tensor  #: [n, A]
    logprobs: Tensor  #: [n]
    advantages: Tensor  #: [n]
    returns: Tensor  #: [n]


def layer_init(layer: nn.Linear, std: float = math.sqrt(2.0)) -> nn.Linear:
    nn.init.orthogonal_(layer.weight, std)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int, std: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [layer_init(nn.Linear(inputs, width)), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, layer_init(nn.Linear(inputs, outputs), std))


class Agent(nn.Module):
    """Actor and critic without shared layers."""

    def __init__(self, observations: int, hidden: tuple[int, ...], actions: int) -> None:
        super().__init__()
        self.critic = mlp(observations, hidden, 1, 1.0)
        self.actor_mean = mlp(observations, hidden, actions, 0.01)
        self.actor_logstd = nn.Parameter(torch.full((1, actions), LOG_STD_START))

    def evaluate(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log probability and entropy of actions, and the values."""
        mean = self.actor_mean(obs)
        probs = Normal(mean, self.actor_logstd.expand_as(mean).exp())
        log_prob: Tensor = probs.log_prob(action).sum(1)  # type: ignore[no-untyped-call]
        entropy: Tensor = probs.entropy().sum(1)  # type: ignore[no-untyped-call]
        return log_prob, entropy, self.critic(obs).flatten()


def make_optimizer(agent: Agent, settings: TrainerSettings) -> torch.optim.Adam:
    return torch.optim.Adam(agent.parameters(), lr=settings.learning_rate, eps=1e-5, fused=True)


def update(agent: Agent, optimizer: torch.optim.Adam, b: Storage, s: TrainerSettings) -> Tensor:
    """Run one PPO update; return the last minibatch's estimate of the KL divergence."""
    n = len(b.obs)
    approx_kl = torch.zeros(())
    for _ in range(s.epochs):
        order = torch.randperm(n, device=b.obs.device)
        for start in range(0, n, s.batch_size):
            mb = order[start : start + s.batch_size]
            logprob, entropy, value = agent.evaluate(b.obs[mb], b.actions[mb])
            logratio = logprob - b.logprobs[mb]
            ratio = logratio.exp()
            with torch.no_grad():
                approx_kl = ((ratio - 1) - logratio).mean()

            advantages = b.advantages[mb]
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            pg_loss1 = -advantages * ratio
            pg_loss2 = -advantages * torch.clamp(ratio, 1 - s.clip_range, 1 + s.clip_range)
            pg_loss = torch.max(pg_loss1, pg_loss2).mean()
            v_loss = ((value - b.returns[mb]) ** 2).mean()
            loss = pg_loss - s.entropy_coef * entropy.mean() + s.value_coef * v_loss

            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(agent.parameters(), s.max_grad_norm, foreach=True)
            optimizer.step()
    return approx_kl
