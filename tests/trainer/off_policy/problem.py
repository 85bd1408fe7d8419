"""Random replay data, and plain implementations with autograd that the written-out ones are compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from trainer.networks.network import ActorCritic, Shape, build_network
from trainer.off_policy import update
from trainer.off_policy.critics import Critics
from trainer.off_policy.replay import Replay, ReplayBatch
from trainer.off_policy.soft_choices import ENTROPY_SHARE, TEMPERATURE_RATE, SoftChoiceUpdater
from trainer.off_policy.state import CriticsState
from trainer.off_policy.td3 import TARGET_NOISE, TARGET_NOISE_LIMIT, Td3Updater

CPU = torch.device("cpu")
STEER = ContinuousActions(names=("steer", "throttle", "brake"), low=(-1.0, 0.0, 0.0), high=(1.0, 1.0, 0.3))
CHOICE = DiscreteActions(n=4)
OBSERVATIONS, HIDDEN, CRITIC_HIDDEN = 5, (24, 16), (20, 12)


def is_continuous(space) -> bool:
    return isinstance(space, ContinuousActions)


def make_network(space, seed=0) -> ActorCritic:
    """Return a network whose means spread widely, also beyond the bounds of actions."""
    contract = PolicyContract(observation_size=OBSERVATIONS, action_space=space)
    network = build_network(Shape.of(contract, HIDDEN), custom="", seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    assert isinstance(network, ActorCritic)
    return network


def make_state(space, seed=0) -> CriticsState:
    actions = space.width if is_continuous(space) else 0
    sizes = (OBSERVATIONS + actions, *CRITIC_HIDDEN, 1 if is_continuous(space) else space.n)
    state = CriticsState.initial(sizes, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for critics in (state.critics, state.targets):
        critics.vector.add_(torch.randn(critics.vector.shape, generator=generator) * 0.1)
    return state


def make_updater(space, seed=0):
    network, state = make_network(space, seed), make_state(space, seed)
    if is_continuous(space):
        return Td3Updater(network, state, space, device=CPU)
    return SoftChoiceUpdater(network, state, device=CPU)


def make_replay(space, n=400, seed=0) -> Replay:
    """Return random transitions; every third ends, and every tenth is held out."""
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randn(2 * n, OBSERVATIONS, generator=generator)
    choice = torch.zeros(2 * n, dtype=torch.int64)
    if is_continuous(space):
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        action = low + (high - low) * torch.rand(2 * n, space.width, generator=generator)
        packed = torch.cat([packed, action], dim=1)
    else:
        choice = torch.randint(space.n, (2 * n,), generator=generator)
    rows = torch.arange(n)
    return Replay(
        packed_PI=packed,
        choice_P=choice,
        row_N=rows,
        next_row_N=rows + n,
        reward_N=torch.randn(n, generator=generator),
        discount_N=torch.where(rows % 3 == 0, 0.0, 0.97),
        is_held_out_N=rows % 10 == 0,
    )


def record_draws(updater):
    """Let an updater note what it draws; return the list."""
    drawn, draws = [], updater._draws

    def recording(*arguments):
        for batch, noise in draws(*arguments):
            drawn.append((ReplayBatch(*(column.clone() for column in batch)), noise.clone()))  # steps change them
            yield batch, noise

    updater._draws = recording
    return drawn


class PlainCritic(nn.Module):
    """One critic: linear, layer normalisation, ReLU; the last layer is linear."""

    def __init__(self, critics: Critics, index: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(w[index].t().clone() for w in critics.weights_EIH)
        self.biases = nn.ParameterList(b[index, 0].clone() for b in critics.biases_E1H)

    def forward(self, x: Tensor) -> Tensor:
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = functional.linear(x, weight, bias)
            if i < len(self.weights) - 1:
                x = functional.relu(functional.layer_norm(x, x.shape[1:], eps=1e-5))
        return x


def plain_critics(critics: Critics) -> nn.ModuleList:
    return nn.ModuleList(PlainCritic(critics, index) for index in range(critics.count))


def vector_of(plain: nn.ModuleList, critics: Critics) -> Tensor:
    """Return the parameters of plain critics in the layout of `critics`."""
    result = Critics(critics.count, critics.sizes)
    with torch.no_grad():
        for e, critic in enumerate(plain):
            for i, (weight, bias) in enumerate(zip(critic.weights, critic.biases, strict=True)):
                result.weights_EIH[i][e].copy_(weight.t())
                result.biases_E1H[i][e, 0].copy_(bias)
    return result.vector


class PlainLearner:
    """The same algorithms with modules, autograd and torch's Adam."""

    def __init__(self, space, seed=0) -> None:
        self.space, self.network, state = space, make_network(space, seed), make_state(space, seed)
        self.critics, self.targets = plain_critics(state.critics), plain_critics(state.targets)
        self.temperature = state.temperature
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), lr=update.LEARNING_RATE)
        self.policy_adam = torch.optim.Adam(self.network.parameters(), lr=update.LEARNING_RATE)
        self.critic_losses: list[float] = []
        self.policy_losses: list[float] = []

    def learn(self, drawn, *, is_policy_fixed=False) -> None:
        for step, (batch, noise) in enumerate(drawn, start=1):
            observation = batch.input_BI
            with torch.no_grad():
                target = batch.reward_B + batch.discount_B * self.next_value(batch.next_input_BI, noise)
            values = [self.chosen(critic(observation), batch.choice_B[:, None]) for critic in self.critics]
            losses = [functional.mse_loss(value, target) for value in values]
            self.critic_adam.zero_grad()
            torch.stack(losses).sum().backward()
            self.critic_adam.step()
            self.critic_losses.append(float(torch.stack(losses).detach().mean()))
            if step % update.POLICY_DELAY == 0:
                if not is_policy_fixed:
                    self.improve(observation[:, :OBSERVATIONS])
                with torch.no_grad():
                    for old, new in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                        old.mul_(1 - update.TARGET_RATE).add_(new, alpha=update.TARGET_RATE)

    def chosen(self, value, choice):
        return value[:, 0] if is_continuous(self.space) else value.gather(1, choice)[:, 0]

    def next_value(self, following, noise):
        following = following[:, :OBSERVATIONS]
        output, _ = self.network(following)
        if is_continuous(self.space):
            low, high = torch.tensor(self.space.low), torch.tensor(self.space.high)
            smoothing = (noise * TARGET_NOISE).clamp(-TARGET_NOISE_LIMIT, TARGET_NOISE_LIMIT)
            action = (torch.tanh(output) + smoothing).clamp(low, high)
            return torch.stack([c(torch.cat([following, action], 1))[:, 0] for c in self.targets]).amin(0)
        policy = torch.distributions.Categorical(logits=output)
        lowest = torch.stack([critic(following) for critic in self.targets]).amin(0)
        return (policy.probs * lowest).sum(1) + self.temperature * policy.entropy()

    def improve(self, observation) -> None:
        output, value = self.network(observation)
        if is_continuous(self.space):
            q = self.critics[0](torch.cat([observation, self.clamped(torch.tanh(output))], 1))[:, 0]
            policy_loss, critic_value = -q.mean(), q.detach()
        else:
            policy = torch.distributions.Categorical(logits=output)
            lowest = torch.stack([critic(observation) for critic in self.critics]).amin(0).detach()
            expected, entropy = (policy.probs * lowest).sum(1), policy.entropy()
            policy_loss, critic_value = -(expected + self.temperature * entropy).mean(), expected.detach()
            wanted = ENTROPY_SHARE * math.log(self.space.n)
            self.temperature *= math.exp(TEMPERATURE_RATE * (wanted - float(entropy.detach().mean())))
        self.policy_adam.zero_grad()
        some = slice(None, None, len(value) // update._VALUE_ROWS)
        (policy_loss + functional.mse_loss(value[some], critic_value[some])).backward()
        self.policy_adam.step()
        self.policy_losses.append(float(policy_loss.detach()))

    def clamped(self, mean):
        """Return the clamped mean. Its gradient passes, except if it would move a mean that is outside further out."""
        low, high = torch.tensor(self.space.low), torch.tensor(self.space.high)
        action = mean + (mean.clamp(low, high) - mean).detach()
        action.register_hook(
            lambda grad: torch.where(((mean > high) & (grad < 0)) | ((mean < low) & (grad > 0)), 0.0, grad)
        )
        return action
