"""Updates of the policy: normalisation, advantages and gradient steps, as in a cycle."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from schemas.contract import PolicyContract
from schemas.settings.models import TrainerSettings
from trainer.common import device as devices
from trainer.common.schedule import linear_schedule
from trainer.common.shapes import Float64
from trainer.envs.vec_env import Observations
from trainer.networks.distributions import ActionDistribution, distribution_for
from trainer.networks.network import Network, Shape, build_network
from trainer.networks.normaliser import Normalisers, popart, rescale_inputs
from trainer.online.config import OnlineSettings
from trainer.online.environments import mirror_of
from trainer.ppo.loss import LossConfig, ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig, Updater
from trainer.rollouts.advantages import advantages
from trainer.rollouts.batch import Batch, as_float32, standardised, unit_weights
from trainer.rollouts.evaluation import PolicyOutputs, concatenate_outputs, evaluate_policy
from trainer.rollouts.experiences import Experiences, next_values
from trainer.rollouts.outliers.recovery import recovered
from trainer.rollouts.outliers.report import ReportedColumns
from trainer.rollouts.outliers.search import Usual, find, without_outliers
from trainer.rollouts.symmetry.check import find_mismatch
from trainer.rollouts.symmetry.mirrored import mirrored_experiences, symmetric_normaliser
from trainer.rollouts.training_set import first_return_normaliser, return_deviation

CHECKED_BATCHES = 3
"""In so many batches at the start of a run, a mirror of the config is checked."""


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
        self.mirror = mirror_of(settings, contract)
        self.distribution: ActionDistribution = distribution_for(contract.action_space)
        self.network: Network = self._new_network(Shape.of(contract, settings.train.hidden_sizes))
        nn.init.constant_(self.network.action_log_std, math.log(settings.train.initial_std))
        self.normalisers = Normalisers.identity(contract.observation_size)
        self.trained = False
        self.device = torch.device("cpu")
        self.moments: dict[str, Any] = {}  #: Adam's moments from a checkpoint
        self.notes: list[str] = []  #: lines for the log; readers empty it
        self._outliers = ReportedColumns()
        self._updater: Updater | None = None
        self._device_settings = TrainerSettings(
            device=settings.run.device, precision=settings.run.precision, threads=settings.run.threads
        )
        self._candidates = devices.candidates(self._device_settings)

    def _new_network(self, shape: Shape) -> Network:
        return build_network(shape, custom="", seed=self.settings.run.seed)

    def learn(self, experiences: Experiences, iteration: int, scheduled: ScheduledValues) -> dict[str, float]:
        """Update the policy with a batch and return its losses and other values for the logs, by name."""
        experiences = self._limit_outliers(experiences)
        if iteration < CHECKED_BATCHES:
            self._check_mirror(experiences)
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

    def critics_state(self) -> dict[str, Any]:
        """Return {}: PPO has no critics besides the network."""
        return {}

    def restore_critics(self, document: dict[str, Any]) -> None:
        """Ignore the critics of a checkpoint."""

    def save_history(self, path: Path) -> None:
        """Write nothing: PPO forgets the experiences of earlier batches."""

    def load_history(self, path: Path) -> None:
        """Read nothing."""

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

    def _limit_outliers(self, experiences: Experiences) -> Experiences:
        """Return a batch with each outlier as the number that it counts as, with a note for each column that has one.

        Statistics that outliers made useless in an earlier version start again.
        """
        gamma = self.settings.train.gamma
        found = find(experiences, self.contract.action_space, Usual.of(self.normalisers, gamma))
        for text in self._outliers.new_in_words(found, experiences):
            self._note("W_OUTLIERS", text)
        experiences = without_outliers(experiences, found)
        recovery = recovered(self.normalisers, experiences.observation_BO, experiences.reward_B, gamma)
        if text := recovery.in_words():
            self._note("W_RECOVERED", text)
            self._restart_from(recovery.normalisers)
        return experiences

    def _restart_from(self, normalisers: Normalisers) -> None:
        """Use other statistics. The policy computes what it did; the optimizer starts from scratch."""
        rescale_inputs(self.network.stacks(), self.normalisers.observations, normalisers.observations)
        self.normalisers, self.moments = normalisers, {}

    def _check_mirror(self, experiences: Experiences) -> None:
        """Add a note if the mirror of the config does not fit the experiences."""
        if self.mirror is not None and self.settings.mirror.is_set:
            mismatch = find_mismatch(experiences, self.mirror, self.contract.action_space)
            if mismatch is not None:
                self._note("W_MIRROR", f"[mirror] does not fit the environment: {mismatch.in_words()}")

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
        outputs, behaviour_logp_B = self._normalise_observations(experiences)
        images = None if self.mirror is None else mirrored_experiences(experiences, self.mirror)
        seen = [outputs] if images is None else [outputs, self._evaluate_policy(images)]
        train = self.settings.train
        returns_before = self.normalisers.returns
        value_B, final_value_F = map(returns_before.limited, outputs.values_in_reward_units(returns_before))
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
        reward_std = return_deviation(experiences, train.gamma)
        returns = returns_before.updated(target_B, reward_std) if self.trained else returns_before
        popart(self.network.stacks().value[-1], returns_before, returns)
        self.normalisers = Normalisers(self.normalisers.observations, returns)
        rho_B = np.concatenate([_weights(output, behaviour_logp_B) for output in seen])
        importance_weight_B = unit_weights(rho_B)
        inputs = [self._inputs(e.observation_BO) for e in (experiences, images) if e is not None]
        both = concatenate_outputs(seen)
        batch = Batch(
            observation_BO=torch.cat(inputs) if len(inputs) > 1 else inputs[0],
            action_BC=both.action_BC,
            logp_B=both.logp_B,
            advantage_B=as_float32(standardised(np.tile(advantage_B, len(seen)), importance_weight_B)),
            target_B=as_float32(returns.targets(np.tile(target_B, len(seen)))),
            value_B=as_float32(returns.normalised(returns_before.restored(both.value_B.double().numpy()))),
            importance_weight_B=as_float32(importance_weight_B),
        )
        target_variance = float(target_B.var())
        return batch, 1.0 - float(advantage_B.var()) / target_variance if target_variance > 0 else float("nan")

    def _normalise_observations(self, experiences: Experiences) -> tuple[PolicyOutputs, Float64]:
        """Update the observation normaliser. Return the network's outputs, and the log_probs when it collected [B].

        A trained network is rescaled and computes the same as before. An untrained one is not: with the new normaliser
        it is another policy than the one that collected the batch, and the importance weights correct for this.
        """
        before = self.normalisers
        observations = before.observations.updated(experiences.observation_BO)
        if self.mirror is not None:
            observations = symmetric_normaliser(observations, self.mirror)
        if self.trained:
            rescale_inputs(self.network.stacks(), before.observations, observations)
            returns = before.returns.reaching(experiences.reward_B, self.settings.train.gamma)
            self.normalisers = Normalisers(observations, returns)
            outputs = self._evaluate_policy(experiences)
            return outputs, outputs.logp_B.double().numpy()
        behaviour = self._evaluate_policy(experiences)
        self.normalisers = Normalisers(observations, first_return_normaliser(experiences, self.settings.train.gamma))
        return self._evaluate_policy(experiences), behaviour.logp_B.double().numpy()

    def _evaluate_policy(self, experiences: Experiences) -> PolicyOutputs:
        std_scale_B = np.ones(experiences.size, np.float32)
        return evaluate_policy(self.network, self.distribution, self._inputs, experiences, std_scale_B)

    def _inputs(self, observation_BO: Observations) -> Tensor:
        """Return what the network gets for observations."""
        return self.normalisers.observations(observation_BO)


def _weights(outputs: PolicyOutputs, behaviour_logp_B: Float64) -> Float64:
    """Return the importance weights [B] of experiences or of their mirror images; see trainer.rollouts.symmetry."""
    return np.asarray(np.minimum(np.exp(outputs.logp_B.double().numpy() - behaviour_logp_B), 1.0), dtype=np.float64)
