"""The updater that uses autograd: for custom networks and losses, for GPUs, and as the reference for the analytic one.

No step waits for the device: losses are added up there, and read once at the end of an epoch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from schemas.errors import ConfigError
from trainer.common import device as devices
from trainer.common import threads
from trainer.common.rng import rng_for
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.ppo.loss import Evaluation, Loss, LossTerms
from trainer.ppo.update import UpdateConfig, make_adam
from trainer.rollouts.batch import Batch, PackedSet


def evaluate(network: Network, distribution: ActionDistribution, batch: Batch) -> Evaluation:
    """Run the network once for everything that the loss needs."""
    output_BK, value_B = network(batch.observation_BO)
    log_std_A = network.action_log_std
    logp_B = distribution.log_prob(output_BK.float(), log_std_A, batch.action_BC)
    return Evaluation(logp_B, value_B.float(), distribution.entropy(output_BK.float(), log_std_A))


def _check_terms(terms: Any, loss: Loss) -> None:
    """Raise ConfigError if a loss does not return what an update needs."""
    name = f"{loss.__module__}:{getattr(loss, '__qualname__', type(loss).__name__)}"
    hint = (
        "return trainer.LossTerms, whose total is computed from the network's outputs; see `hotlap docs custom-network`"
    )
    if not isinstance(terms, LossTerms):
        raise ConfigError(f"trainer.loss = {name} returns a {type(terms).__name__} instead of LossTerms", hint=hint)
    values: tuple[Any, ...] = tuple(terms)
    for field, term in zip(LossTerms._fields, values, strict=True):
        if not isinstance(term, Tensor) or term.ndim != 0:
            found = f"a tensor of shape {tuple(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise ConfigError(f"trainer.loss = {name}: {field} is {found} instead of a tensor ()", hint=hint)
    if not terms.total.requires_grad:
        raise ConfigError(f"trainer.loss = {name}: total has no gradient", hint=hint)


class AutogradUpdater:
    """Minibatch steps on one device, for any network and loss. Sets the number of CPU threads of the process."""

    def __init__(
        self,
        network: Network,
        distribution: ActionDistribution,
        loss: Loss,
        config: UpdateConfig,
        batch: Batch,
        optimizer_state: dict[str, Any],
        device: torch.device,
    ) -> None:
        parameters = sum(p.numel() for p in network.parameters())
        count = threads.count_by_size(config.batch_size, parameters) if device.type == "cpu" else 1
        threads.set_thread_count(config.threads or count)
        devices.allow_tf32(device)
        self.network = network.to(device)
        self._adam = make_adam(self.network, config.learning_rate, optimizer_state)
        self._distribution, self._loss, self._device = distribution, loss, device
        self._is_loss_checked = False
        stack = [tensor for layer in self.network.stacks().policy for tensor in (layer.weight, layer.bias)]
        self._policy_parameters = [*stack, self.network.action_log_std]
        self._parameters = [p for group in self._adam.param_groups for p in group["params"]]
        self.set_batch(config, batch)

    def set_batch(self, config: UpdateConfig, batch: Batch) -> None:
        """Continue with another training set and other settings; parameters and moments stay."""
        self.config, self._data = config, PackedSet(batch, self._device)
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate
        for parameter in self._policy_parameters:
            parameter.requires_grad_(config.trains_policy)  # without gradients, Adam leaves parameters out

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict."""
        return self._adam.state_dict()

    def step(self, batch: Batch) -> Tensor:
        """Take one gradient step; return the loss terms and the gradient's norm before clipping, [7], detached.

        The norm of the whole gradient is clipped (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).
        """
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.bfloat16):
            new = evaluate(self.network, self._distribution, batch)
        terms = self._loss(batch, new, self.config.loss)
        if not self._is_loss_checked:
            _check_terms(terms, self._loss)
            self._is_loss_checked = True
        self._adam.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm, foreach=True)
        self._adam.step()
        self.network.clamp_log_std()
        return torch.stack([*terms, norm]).detach()

    def epoch(self, epoch: int) -> dict[str, float]:
        """Use all experiences once; return the means of the loss terms and of the gradient's norm, by name."""
        rng = rng_for(self.config.seed, "shuffle", self.config.cycle, epoch)
        sums = torch.zeros(len(LossTerms._fields) + 1, device=self._device)
        count = 0
        for batch in self._data.shuffled(self.config.batch_size, rng=rng):
            sums += self.step(batch)
            count += 1
        names = (*LossTerms._fields, "grad_norm")
        return dict(zip(names, (sums / count).tolist(), strict=True))
