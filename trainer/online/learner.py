"""One update: experiences to units, advantages and gradient steps, as in a cycle, with the buffers kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from schemas.contract import PolicyContract
from schemas.settings.models import TrainerSettings
from trainer.common import device as devices
from trainer.common.shapes import Float64
from trainer.networks.distributions import ActionDistribution, distribution_for
from trainer.networks.network import Network, Shape, build_network
from trainer.networks.normaliser import Normalisers, popart, rescale_inputs
from trainer.online.config import OnlineSettings
from trainer.ppo.loss import LossConfig, ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig, Updater
from trainer.rollouts.advantages import advantages
from trainer.rollouts.batch import Batch
from trainer.rollouts.evaluation import PolicyOutputs, evaluate_policy
from trainer.rollouts.experiences import Experiences, next_values
from trainer.rollouts.training_set import first_return_normaliser, standardised, unit_weights


@dataclass(frozen=True, slots=True)
class ScheduledValues:
    """What the schedules say now."""

    learning_rate: float
    entropy_coef: float

    @classmethod
    def at(cls, steps: int, settings: OnlineSettings) -> ScheduledValues:
        """Return the rates after so many agent steps."""
        done = min(1.0, steps / settings.run.total_steps)
        train = settings.train
        return cls(
            train.learning_rate + (train.learning_rate_end - train.learning_rate) * done,
            train.entropy_coef + (train.entropy_coef_end - train.entropy_coef) * done,
        )


class OnlineLearner:
    """The network with its units and its optimizer, from batch to batch."""

    def __init__(self, contract: PolicyContract, settings: OnlineSettings) -> None:
        self.contract, self.settings = contract, settings
        self.head: ActionDistribution = distribution_for(contract.action_space)
        shape = Shape.of(contract, settings.train.hidden_sizes)
        self.network: Network = build_network(shape, custom="", seed=settings.run.seed)
        self.normalisers = Normalisers.identity(contract.observation_size)
        self.trained = False
        self.device = torch.device("cpu")
        self.moments: dict[str, Any] = {}  #: Adam's, from a checkpoint
        self.notes: list[str] = []  #: for people, until the reader empties it
        self._updater: Updater | None = None
        self._machine = TrainerSettings(
            device=settings.run.device, precision=settings.run.precision, threads=settings.run.threads
        )
        self._candidates = devices.candidates(self._machine)

    def learn(self, experiences: Experiences, iteration: int, scheduled: ScheduledValues) -> dict[str, float]:
        """Move the policy; give the losses and what else the logs show, by name."""
        batch, explained = self._batch(experiences)
        if self._updater is None:
            self.device = devices.fastest(
                self._candidates, lambda device: self._trial(device, batch, iteration, scheduled)
            )
            self._updater = self._make(self.network, self.device, batch, self._plan(iteration, scheduled))
            self.network = self._updater.network
        plan = self._plan(iteration, scheduled)
        self._updater.renew(plan, batch)
        terms: dict[str, float] = {}
        for epoch in range(1, plan.epochs + 1):
            terms = self._updater.epoch(epoch)
            if plan.target_kl is not None and terms["approx_kl"] > plan.target_kl:
                break
        self.trained = True
        return terms | {"explained_variance": explained, "epochs": epoch}

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict; empty before the first update."""
        return {} if self._updater is None else self._updater.optimizer_state()

    def _make(self, network: Network, device: torch.device, batch: Batch, config: UpdateConfig) -> Updater:
        devices.prepare(device, config.threads or 1)
        config = replace(config, bfloat16=devices.use_bfloat16(self._machine, device, self.settings.train.hidden_sizes))
        if device.type == "cuda" and self.settings.run.compile:
            self._compile(network.to(device), batch)
        return make_updater(network, self.head, ppo_loss, config, batch, optimizer_state=self.moments, device=device)

    def _compile(self, network: Network, batch: Batch) -> None:
        """Compile in place, and undo it where the first call fails."""
        network.compile()
        try:
            network(batch.observation_BO[:64].to(network.action_log_std.device))
        except Exception as error:  # noqa: BLE001
            network._compiled_call_impl = None
            self.notes.append(f"torch.compile failed, going on without: {type(error).__name__}: {error}")

    def _trial(self, device: torch.device, batch: Batch, iteration: int, scheduled: ScheduledValues) -> Any:
        updater = self._make(copy.deepcopy(self.network), device, batch, self._plan(iteration, scheduled))
        return lambda: updater.epoch(0)

    def _plan(self, iteration: int, scheduled: ScheduledValues) -> UpdateConfig:
        train, run = self.settings.train, self.settings.run
        return UpdateConfig(
            epochs=train.epochs,
            batch_size=train.batch_size,
            learning_rate=scheduled.learning_rate,
            max_grad_norm=train.max_grad_norm,
            target_kl=train.target_kl,
            loss=LossConfig(train.clip_range, None, train.value_coef, scheduled.entropy_coef),
            seed=run.seed,
            cycle=iteration,
            bfloat16=devices.use_bfloat16(self._machine, self.device, train.hidden_sizes),
            threads=run.threads,
        )

    def _batch(self, experiences: Experiences) -> tuple[Batch, float]:
        """Set the units, re-express the network in them, and give the training set and the explained variance."""
        untrained_logp_B = self._update_observations(experiences)
        outputs = self._evaluate(experiences)
        if untrained_logp_B is None:
            importance_weight_B = np.ones(experiences.size)
        else:  # the first batch was collected with other normalisers than it is learned from
            logp_B = outputs.logp_B.double().numpy()
            importance_weight_B = unit_weights(np.minimum(np.exp(logp_B - untrained_logp_B), 1.0))
        value_B, final_value_F = outputs.values_in_reward_units(self.normalisers.returns)
        train = self.settings.train
        advantage_B = advantages(
            reward_B=experiences.reward_B.astype(np.float64),
            value_B=value_B,
            next_value_B=next_values(experiences, value_B, final_value_F),
            trace_continues_B=experiences.trace_continues_B,
            rho_B=np.ones(experiences.size),
            gamma=train.gamma,
            lam=train.gae_lambda,
        )
        target_B = value_B + advantage_B
        before = self.normalisers.returns
        returns = before.updated(target_B) if self.trained else before
        popart(self.network.stacks().value[-1], before, returns)
        self.normalisers = Normalisers(self.normalisers.observations, returns)
        batch = Batch(
            observation_BO=self.normalisers.observations(experiences.observation_BO),
            action_BC=outputs.action_BC,
            logp_B=outputs.logp_B,
            advantage_B=_float32(standardised(advantage_B, importance_weight_B)),
            target_B=_float32(returns.normalised(target_B)),
            value_B=_float32(returns.normalised(value_B)),
            importance_weight_B=_float32(importance_weight_B),
        )
        spread = float(target_B.var())
        return batch, 1.0 - float(advantage_B.var()) / spread if spread > 0 else float("nan")

    def _update_observations(self, experiences: Experiences) -> Float64 | None:
        """Update the observation normaliser. A trained network is rescaled, so that it computes the same function.

        An untrained one is not: return the log likelihoods of its actions before the update, otherwise None.
        """
        before = self.normalisers
        after = before.observations.updated(experiences.observation_BO)
        if self.trained:
            rescale_inputs(self.network.stacks(), before.observations, after)
            self.normalisers = Normalisers(after, before.returns)
            return None
        untrained_logp_B: Float64 = self._evaluate(experiences).logp_B.double().numpy()
        self.normalisers = Normalisers(after, first_return_normaliser(experiences, self.settings.train.gamma))
        return untrained_logp_B

    def _evaluate(self, experiences: Experiences) -> PolicyOutputs:
        std_scale_B = np.ones(experiences.size, np.float32)
        return evaluate_policy(self.network, self.head, self.normalisers.observations, experiences, std_scale_B)


def _float32(column: Float64) -> torch.Tensor:
    return torch.from_numpy(column.astype(np.float32))
