"""The built-in network, and the base class of custom networks.

Networks get normalised observations and return values in normalised units; see trainer.networks.normaliser. Engines
run two plain stacks of layers with ReLU between them (docs/reference/formats.md, "Model JSON"). A custom network can
share or tie layers in any way, if its `stacks()` can name the layers of each of the two stacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ConfigError, HotlapError
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, LOG_STD_START
from trainer.common.exit_codes import is_out_of_memory
from trainer.common.rng import key_for, rng_for
from trainer.common.user_code import describe, file_of, search_current_folder

_PAGE_HINT = "see `hotlap docs custom-network`"
_NAME_HINT = f"write package.module:Name, importable from the project folder; {_PAGE_HINT}"


@dataclass(frozen=True, slots=True)
class Shape:
    """The layer sizes of a network."""

    observation_size: int
    hidden_sizes: tuple[int, ...]
    outputs: int  #: of the policy head
    log_stds: int  #: numbers in `action_log_std`: one for each action name, 0 for a discrete policy

    @classmethod
    def of(cls, contract: PolicyContract, hidden_sizes: tuple[int, ...]) -> Shape:
        """Return the shape for a contract."""
        space = contract.action_space
        continuous = isinstance(space, ContinuousActions)
        return cls(contract.observation_size, hidden_sizes, space.output_size, space.output_size if continuous else 0)


@dataclass(frozen=True, slots=True)
class Stacks:
    """The layers as the engine runs them: ReLU after each layer of a stack except the last one."""

    policy: tuple[nn.Linear, ...]
    value: tuple[nn.Linear, ...]

    def inputs(self) -> tuple[nn.Linear, ...]:
        """Return the layers that take observations; a layer that both stacks share is named once."""
        return tuple(dict.fromkeys((self.policy[0], self.value[0])))


class Network(nn.Module):
    """Base class of all networks. A subclass creates its layers in `__init__`, and defines `forward` and `stacks`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.action_log_std = nn.Parameter(torch.full((shape.log_stds,), LOG_STD_START))

    def forward(self, observation_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy head's raw outputs [B, K] and the values [B], in normalised units."""
        raise NotImplementedError

    def values(self, observation_BO: Tensor) -> Tensor:
        """Return only the values [B]. Override it if they can be computed without the policy."""
        value_B: Tensor = self(observation_BO)[1]
        return value_B

    def stacks(self) -> Stacks:
        """Return the layers. Run one after the other, they must compute what `forward` computes."""
        raise NotImplementedError

    @torch.no_grad()
    def clamp_log_std(self) -> None:
        """Limit `action_log_std` to the engine's range, ln 0.01 to ln 2. Called after every step."""
        self.action_log_std.clamp_(LOG_STD_MIN, LOG_STD_MAX)


def hidden_layers(inputs: int, sizes: tuple[int, ...]) -> nn.ModuleList:
    """Return linear layers from `inputs` through all `sizes`, with orthogonal weights of gain sqrt 2."""
    pairs = zip((inputs, *sizes[:-1]), sizes, strict=True)
    return nn.ModuleList(orthogonal(nn.Linear(i, o), math.sqrt(2.0)) for i, o in pairs)


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """Initialise a layer with orthogonal weights (Saxe et al. 2014, arXiv:1312.6120) and zero biases, and return it.

    As in common implementations of PPO (Huang et al. 2022, detail 2).
    """
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class ActorCritic(Network):
    """The built-in network: two separate MLPs, so that one loss does not disturb the features of the other."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.policy_layers = hidden_layers(shape.observation_size, shape.hidden_sizes)
        self.policy_head = orthogonal(nn.Linear(shape.hidden_sizes[-1], shape.outputs), 0.01)
        self.value_layers = hidden_layers(shape.observation_size, shape.hidden_sizes)
        # Small, unlike in common implementations: so V starts as the average return and adds no noise to advantages.
        self.value_head = orthogonal(nn.Linear(shape.hidden_sizes[-1], 1), 0.01)

    def forward(self, observation_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy head's raw outputs [B, K] and the values [B]."""
        policy = observation_BO
        for layer in self.policy_layers:
            policy = torch.relu(layer(policy))
        return self.policy_head(policy), self.values(observation_BO)

    def values(self, observation_BO: Tensor) -> Tensor:
        """Return the values [B], without running the policy stack."""
        value = observation_BO
        for layer in self.value_layers:
            value = torch.relu(layer(value))
        result: Tensor = self.value_head(value).squeeze(1)
        return result

    def stacks(self) -> Stacks:
        """Return the layers."""
        return Stacks((*self.policy_layers, self.policy_head), (*self.value_layers, self.value_head))


def load_symbol(name: str, setting: str) -> Any:
    """Import the object at "package.module:Name"; the current folder is searched last. Raises ConfigError."""
    search_current_folder()
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        raise _config_error(error, f"trainer.{setting} = {name} cannot be loaded", _NAME_HINT) from error


def _config_error(error: BaseException, problem: str, hint: str) -> ConfigError:
    """Return the error for an exception of the user's code, which names its file and line."""
    if file := file_of(error):
        return ConfigError(f"{problem}: {describe(error)}", hint=f"correct {file}; the log has the traceback")
    return ConfigError(f"{problem}: {describe(error)}", hint=hint)


def build_network(shape: Shape, *, custom: str, seed: int, purpose: str = "network") -> Network:
    """Return a new network: the built-in one, or an instance of the class that `custom` names. Raises ConfigError.

    The same seed and purpose lead to the same weights.
    """
    make: Callable[[Shape], Network] = load_symbol(custom, "network") if custom else ActorCritic
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_for(seed, purpose))
        if not custom:
            return make(shape)
        try:
            network = make(shape)
            _check_stacks(network, shape, custom)
        except HotlapError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise _config_error(error, f"trainer.network = {custom} cannot be used", _PAGE_HINT) from error
    return network


@torch.no_grad()
def _check_stacks(network: Network, shape: Shape, name: str) -> None:
    """Raise ConfigError if the stacks do not compute what the network does: the engine would run another policy."""
    hint = _PAGE_HINT
    if not isinstance(network, Network):
        raise ConfigError(f"trainer.network = {name} is not a subclass of trainer.Network", hint=hint)
    x = torch.randn(64, shape.observation_size, generator=rng_for(0, "stacks"))
    output_BK, value_B = network(x)
    stacks = network.stacks()
    for stack, outputs in ((stacks.policy, shape.outputs), (stacks.value, 1)):
        sizes = (*shape.hidden_sizes, outputs)
        found = tuple(layer.out_features for layer in stack)
        if found != sizes:
            raise ConfigError(
                f"trainer.network = {name}: a stack has the layer sizes {found}, but must have {sizes}", hint=hint
            )
    same_policy = torch.allclose(run_stack(stacks.policy, x), output_BK, rtol=1e-4, atol=1e-5)
    same_value = torch.allclose(run_stack(stacks.value, x).squeeze(1), value_B, rtol=1e-4, atol=1e-5)
    if not (same_policy and same_value):
        raise ConfigError(f"trainer.network = {name}: forward() and stacks() compute different results", hint=hint)


def run_stack(stack: tuple[nn.Linear, ...], x: Tensor) -> Tensor:
    """Return the output of plain layers, run as the engine runs them."""
    for layer in stack[:-1]:
        x = torch.relu(layer(x))
    result: Tensor = stack[-1](x)
    return result
