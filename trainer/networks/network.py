"""The networks: a policy and a value MLP of the same hidden sizes, and the base class for one of yours.

Networks see normalised observations and give values in normalised units; `trainer.networks.normaliser` does the rest. What
an engine can run is fixed (Contract 3): two plain stacks with ReLU between the layers. So a network of yours may
share or tie layers as it likes, as long as `stacks()` can name the layers that each of the two stacks consists of.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ConfigError
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, LOG_STD_START
from trainer.common.rng import key_for, rng_for


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that a network must have."""

    observation_size: int
    hidden_sizes: tuple[int, ...]
    outputs: int  #: of the policy head
    log_stds: int  #: numbers in `action_log_std`: one an action, none where the policy is discrete

    @classmethod
    def of(cls, contract: PolicyContract, hidden_sizes: tuple[int, ...]) -> Shape:
        """Return the shape that a contract asks for."""
        space = contract.action_space
        continuous = isinstance(space, ContinuousActions)
        return cls(contract.observation_size, hidden_sizes, space.output_size, space.output_size if continuous else 0)


@dataclass(frozen=True, slots=True)
class Stacks:
    """The network as the engine will run it: ReLU after each layer but the last of each stack."""

    policy: tuple[nn.Linear, ...]
    value: tuple[nn.Linear, ...]

    def inputs(self) -> tuple[nn.Linear, ...]:
        """The layers that see observations, each once though both stacks may share it."""
        return tuple(dict.fromkeys((self.policy[0], self.value[0])))


class Network(nn.Module):
    """Base of all networks. A subclass builds its layers in `__init__`, and says how they compute and what they are."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.action_log_std = nn.Parameter(torch.full((shape.log_stds,), LOG_STD_START))

    def forward(self, observation_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy head's raw outputs [B, K] and the values [B], from and in normalised units."""
        raise NotImplementedError

    def values(self, observation_BO: Tensor) -> Tensor:
        """Return the values [B] alone."""
        value_B: Tensor = self(observation_BO)[1]
        return value_B

    def stacks(self) -> Stacks:
        """Name the layers; run one after the other they must compute what `forward` does."""
        raise NotImplementedError

    @torch.no_grad()
    def clamp_log_std(self) -> None:
        """Put `action_log_std` back between ln 0.01 and ln 2, where the engine keeps it (after every step)."""
        self.action_log_std.clamp_(LOG_STD_MIN, LOG_STD_MAX)


def hidden_layers(inputs: int, sizes: tuple[int, ...]) -> nn.ModuleList:
    """Return linear layers from `inputs` through all `sizes`, orthogonal with gain sqrt 2, biases 0."""
    pairs = zip((inputs, *sizes[:-1]), sizes, strict=True)
    return nn.ModuleList(orthogonal(nn.Linear(i, o), math.sqrt(2.0)) for i, o in pairs)


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """Initialise a layer as PPO's usual implementations do (Huang et al. 2022, detail 2)."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class ActorCritic(Network):
    """The built-in network: two separate MLPs, so that neither loss disturbs the other's features."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.policy_layers = hidden_layers(shape.observation_size, shape.hidden_sizes)
        self.policy_head = orthogonal(nn.Linear(shape.hidden_sizes[-1], shape.outputs), 0.01)
        self.value_layers = hidden_layers(shape.observation_size, shape.hidden_sizes)
        # Small, unlike usual: at first every state is worth the average return, and advantages carry no noise of V's.
        self.value_head = orthogonal(nn.Linear(shape.hidden_sizes[-1], 1), 0.01)

    def forward(self, observation_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy head's raw outputs [B, K] and the values [B]."""
        policy = observation_BO
        for layer in self.policy_layers:
            policy = torch.relu(layer(policy))
        return self.policy_head(policy), self.values_of(observation_BO)

    def values_of(self, observation_BO: Tensor) -> Tensor:
        """Leave the policy stack out."""
        value = observation_BO
        for layer in self.value_layers:
            value = torch.relu(layer(value))
        result: Tensor = self.value_head(value).squeeze(1)
        return result

    def stacks(self) -> Stacks:
        """The layers as they are."""
        return Stacks((*self.policy_layers, self.policy_head), (*self.value_layers, self.value_head))


def load_symbol(name: str, setting: str) -> Any:
    """Return what "package.module:Name" names; the project folder is searched too. Raises ConfigError."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"trainer.{setting} = {name} cannot be loaded: {error}",
            hint="write package.module:Name, importable from the project folder; see docs/custom.md",
        ) from error


def build_network(shape: Shape, *, custom: str, seed: int, purpose: str = "network") -> Network:
    """Make a fresh network, the built-in one or the class that `custom` names; the same seed gives the same weights."""
    make: Callable[[Shape], Network] = load_symbol(custom, "network") if custom else ActorCritic
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_for(seed, purpose))
        network = make(shape)
    if custom:
        _check_stacks(network, shape, custom)
    return network


@torch.no_grad()
def _check_stacks(network: Network, shape: Shape, name: str) -> None:
    """Refuse a network whose stacks are not what it computes: the engine would play another policy."""
    hint = "see docs/custom.md"
    if not isinstance(network, Network):
        raise ConfigError(f"trainer.network = {name} is no subclass of trainer.networks.network.Network", hint=hint)
    x = torch.randn(64, shape.observation_size, generator=rng_for(0, "stacks"))
    output_BK, value_B = network(x)
    stacks = network.stacks()
    for stack, outputs in ((stacks.policy, shape.outputs), (stacks.value, 1)):
        sizes = (*shape.hidden_sizes, outputs)
        if tuple(layer.out_features for layer in stack) != sizes:
            raise ConfigError(f"trainer.network = {name}: a stack has other layer sizes than {sizes}", hint=hint)
    same_policy = torch.allclose(run_stack(stacks.policy, x), output_BK, rtol=1e-4, atol=1e-5)
    same_value = torch.allclose(run_stack(stacks.value, x).squeeze(1), value_B, rtol=1e-4, atol=1e-5)
    if not (same_policy and same_value):
        raise ConfigError(f"trainer.network = {name}: forward() computes something else than its stacks()", hint=hint)


def run_stack(stack: tuple[nn.Linear, ...], x: Tensor) -> Tensor:
    """Run plain layers as the engine does."""
    for layer in stack[:-1]:
        x = torch.relu(layer(x))
    result: Tensor = stack[-1](x)
    return result
