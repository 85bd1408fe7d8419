"""Updates of the policy: normalisation, advantages and gradient steps, as in a cycle."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from schemas.contract import PolicyContract
from schemas.settings.models import TrainerSettings
from trainer.common import device as devices
from trainer.common.schedule import linear_schedule
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
    """The values of the schedules at one step of the run."""

    learning_rate: float
    entropy_coef: float
    clip_range: float

    @classmethod
    def at(cls, steps: int, settings: OnlineSettings) -> ScheduledValues:
        """Return the values after this many agent steps."""
        progress, train = steps / settings.run.total_steps, settings.train
        return cls(
            linear_schedule(train.learning_rate, train.learning_rate_end, progress),
            linear_schedule(train.entropy_coef, train.entropy_coef_end, progress),
            linear_schedule(train.clip_range, train.clip_range_end or train.clip_range, progress),
        )


class OnlineLearner:
    """The network, its normaliser and its optimizer; one `learn` call per batch."""

    def __init__(self, contract: PolicyContract, settings: OnlineSettings) -> None:
        self.contract, self.settings = contract, settings
        self.distribution: ActionDistribution = distribution_for(contract.action_space)
        shape = Shape.of(contract, settings.train.hidden_sizes)
        self.network: Network = build_network(shape, custom="", seed=settings.run.seed)
        nn.init.constant_(self.network.action_log_std, math.log(settings.train.initial_std))
        self.normalisers = Normalisers.identity(contract.observation_size)
        self.trained = False
        self.device = torch.device("cpu")
        self.moments: dict[str, Any] = {}  #: Adam's moments from a checkpoint
        self.notes: list[str] = []  #: lines for the log; readers empty it
        self._updater: Updater | None = None
        self._device_settings = TrainerSettings(
            device=settings.run.device, precision=settings.run.precision, threads=settings.run.threads
        )
        self._candidates = devices.candidates(self._device_settings)

    def learn(self, experiences: Experiences, iteration: int, scheduled: ScheduledValues) -> dict[str, float]:
        """Update the policy with a batch and return its losses and other values for the logs, by name."""
        batch, explained_variance = self._build_batch(experiences)
        if self._updater is None:
            self.device = devices.fastest(
                self._candidates, lambda device: self._trial(device, batch, iteration, scheduled)
            )
            self._updater = self._make_updater(
                self.network, self.device, batch, self._update_config(iteration, scheduled)
            )
            self.network = self._updater.network
        config = self._update_config(iteration, scheduled)
        self._updater.set_batch(config, batch)
        terms: dict[str, float] = {}
        for epoch in range(1, config.epochs + 1):
            terms = self._updater.epoch(epoch)
            if config.target_kl is not None and terms["approx_kl"] > config.target_kl:
                break
        self.trained = True
        return terms | {"explained_variance": explained_variance, "epochs": epoch}

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict; it is empty before the first update."""
        return {} if self._updater is None else self._updater.optimizer_state()

    def _make_updater(self, network: Network, device: torch.device, batch: Batch, config: UpdateConfig) -> Updater:
        config = replace(
            config, bfloat16=devices.use_bfloat16(self._device_settings, device, self.settings.train.hidden_sizes)
        )
        if device.type == "cuda" and self.settings.run.compile:
            self._compile(network.to(device), batch)
        return make_updater(
            network,
            self.distribution,
            ppo_loss,
            config,
            batch,
            optimizer_state=self.moments,
            device=device,
            notify=self._note,
        )

    def _note(self, code: str, message: str) -> None:
        """Add a notice, once."""
        if (note := f"{message} [{code}]") not in self.notes:
            self.notes.append(note)

    def _compile(self, network: Network, batch: Batch) -> None:
        """Compile the network in place, and undo it if the first call fails."""
        network.compile()
        try:
            network(batch.observation_BO[:64].to(network.action_log_std.device))
        except Exception as error:  # noqa: BLE001
            network._compiled_call_impl = None
            self.notes.append(f"torch.compile failed, training continues without it: {type(error).__name__}: {error}")

    def _trial(self, device: torch.device, batch: Batch, iteration: int, scheduled: ScheduledValues) -> Any:
        updater = self._make_updater(
            copy.deepcopy(self.network), device, batch, self._update_config(iteration, scheduled)
        )
        return lambda: updater.epoch(0)

    def _update_config(self, iteration: int, scheduled: ScheduledValues) -> UpdateConfig:
        train, run = self.settings.train, self.settings.run
        return UpdateConfig(
            epochs=train.epochs,
            batch_size=train.batch_size,
            learning_rate=scheduled.learning_rate,
            max_grad_norm=train.max_grad_norm,
            target_kl=train.target_kl,
            loss=LossConfig(scheduled.clip_range, None, train.value_coef, scheduled.entropy_coef),
            seed=run.seed,
            cycle=iteration,
            bfloat16=devices.use_bfloat16(self._device_settings, self.device, train.hidden_sizes),
            threads=run.threads,
        )

    def _build_batch(self, experiences: Experiences) -> tuple[Batch, float]:
        """Update the normaliser, and return the training set and the explained variance of the value network."""
        outputs, importance_weight_B = self._normalise_observations(experiences)
        returns_before = self.normalisers.returns
        value_B, final_value_F = (
            returns_before.restored(values.double().numpy()) for values in (outputs.value_B, outputs.final_value_F)
        )
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
        returns = returns_before.updated(target_B) if self.trained else returns_before
        popart(self.network.stacks().value[-1], returns_before, returns)
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
        target_variance = float(target_B.var())
        return batch, 1.0 - float(advantage_B.var()) / target_variance if target_variance > 0 else float("nan")

    def _normalise_observations(self, experiences: Experiences) -> tuple[PolicyOutputs, Float64]:
        """Update the observation normaliser, and return the network's outputs and the importance weights [B].

        A trained network is rescaled and computes the same as before. An untrained one is not: with the new normaliser
        it is another policy than the one that collected the batch, and the weights correct for the difference.
        """
        before = self.normalisers
        observations = before.observations.updated(experiences.observation_BO)
        if self.trained:
            rescale_inputs(self.network.stacks(), before.observations, observations)
            self.normalisers = Normalisers(observations, before.returns)
            return self._evaluate_policy(experiences), np.ones(experiences.size)
        behaviour = self._evaluate_policy(experiences)
        self.normalisers = Normalisers(observations, first_return_normaliser(experiences, self.settings.train.gamma))
        outputs = self._evaluate_policy(experiences)
        log_ratio_B = outputs.logp_B.double().numpy() - behaviour.logp_B.double().numpy()
        return outputs, unit_weights(np.minimum(np.exp(log_ratio_B), 1.0))

    def _evaluate_policy(self, experiences: Experiences) -> PolicyOutputs:
        std_scale_B = np.ones(experiences.size, np.float32)
        return evaluate_policy(self.network, self.distribution, self.normalisers.observations, experiences, std_scale_B)


def _float32(column: Float64) -> torch.Tensor:
    return torch.from_numpy(column.astype(np.float32))
