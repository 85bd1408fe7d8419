"""PPO's value critic: a value function in the trainer that also sees critic observations.

It exists only if rollouts have critic observations. Its values replace those of the network in advantages, value
targets and the score of the epochs. The network's own value stack, which engines and probes use, is trained on the
same targets without them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schemas.job import Job
from trainer.checkpoints.parent import Parent
from trainer.common.reporting.reporter import Notices
from trainer.common.rng import rng_for
from trainer.common.schedule import scheduled
from trainer.networks.critic_inputs import CriticInputs, cause_of_misfit
from trainer.networks.normaliser import Normalisers
from trainer.off_policy.adam import VectorAdam
from trainer.off_policy.critics import CriticPass, Critics
from trainer.ppo.update import value_errors
from trainer.rollouts.batch import minibatch_sizes
from trainer.rollouts.evaluation import PolicyOutputs
from trainer.rollouts.experiences import Experiences
from trainer.rollouts.training_set import TrainingSet, ValueTargets

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class _Stored:
    """A value critic of a checkpoint."""

    critic: Critics
    inputs: CriticInputs
    moments: dict[str, Any] | None


class ValueCritic:
    """The value critic of one cycle. It is trained in place. Letters: see trainer.off_policy.critics."""

    def __init__(self, parent: Parent, critic_width: int, job: Job, notices: Notices) -> None:
        self._job, self._parent = job, parent
        self._observations = job.contract.observation_size
        columns = CriticInputs.identity(critic_width).columns
        sizes = (self._observations + columns, *job.settings.critic_sizes, 1)
        stored = _open(parent.critics_state, sizes, critic_width)
        self.is_new = stored is None
        if stored is None and "value" in parent.critics_state:
            cause = cause_of_misfit(parent.critics_state, critic_width)
            notices.send("W_OPTIMIZER", f"the parent's value critic does not fit {cause}: a new one is trained")
        if stored is None:
            critic = Critics.initial(1, sizes, seed=job.settings.seed)
            stored = _Stored(critic, CriticInputs.identity(critic_width), None)
        self._critic, self._inputs = stored.critic, stored.inputs
        gradient = torch.zeros_like(self._critic.vector)
        self._gradient_views = self._critic.views(gradient)
        self._pass = CriticPass(self._critic)
        s = job.settings
        rate = scheduled(s.learning_rate, s.learning_rate_end, job.policy_version, s.schedule_cycles)
        self._adam = VectorAdam(self._critic.vector, gradient, rate, stored.moments)
        self._input_BI = torch.zeros(0, sizes[0])
        self._targets = ValueTargets.of(torch.zeros(0), np.zeros(0, bool), np.zeros(0, bool))

    @torch.no_grad()
    def applied_to(self, outputs: PolicyOutputs, experiences: Experiences, normalisers: Normalisers) -> PolicyOutputs:
        """Return a network's outputs with the values of this critic, which is changed for new statistics of its inputs.

        A new critic knows nothing yet: then the values stay those of the network.
        """
        e, before = experiences, self._inputs
        self._inputs = before.updated(e.critic_observation_BP[e.is_new_B | self.is_new])
        if not self.is_new:
            self._critic.rescale_inputs(self._parent.normalisers.observations, normalisers.observations)
            self._critic.rescale_critic_inputs(before, self._inputs, first=self._observations)
        observed_BO, observed_FO = (normalisers.observations(o) for o in (e.observation_BO, e.final_observation_FO))
        self._input_BI = torch.cat([observed_BO, self._inputs(e.critic_observation_BP)], dim=1)
        if self.is_new:
            return outputs
        final_FI = torch.cat([observed_FO, self._inputs(e.final_critic_observation_FP)], dim=1)
        return replace(outputs, value_B=self._values(self._input_BI), final_value_F=self._values(final_FI))

    @torch.no_grad()
    def start(self, training_set: TrainingSet) -> None:
        """Take the targets of a training set that `applied_to` was used for."""
        if not self.is_new:
            self._critic.rescale_values(self._parent.normalisers.returns, training_set.normalisers.returns)
        self._targets = training_set.value_targets

    @torch.no_grad()
    def epoch(self, epoch: int) -> dict[str, float]:
        """Use the training set once; return losses by name. `value_loss` and `explained_variance` are held-out ones."""
        targets, settings = self._targets, self._job.settings
        rng = rng_for(settings.seed, "value critic", self._job.policy_version, epoch)
        order = targets.train_rows[torch.randperm(len(targets.train_rows), generator=rng)]
        total = torch.zeros(())
        for rows in torch.split(order, minibatch_sizes(len(order), settings.batch_size)):
            error_B = self._pass.forward(self._input_BI[rows])[0, :, 0] - targets.target_B[rows]
            self._pass.backward((error_B * (2.0 / len(rows))).view(1, -1, 1), *self._gradient_views)
            self._adam.step()
            total += error_B.square().sum()
        held = targets.held_out_rows
        errors = value_errors(self._values(self._input_BI[held]), targets.target_B[held])
        return errors | {"train_value_loss": float(total) / max(1, len(order))}

    def document(self) -> dict[str, Any]:
        """Return the tensors and plain values for a checkpoint; the next epoch changes the tensors."""
        return {"value": self._critic.document(), "value_adam": self._adam.state(), **self._inputs.document()}

    def _values(self, input_BI: Tensor) -> Tensor:
        """Return values [B] in units of the return normaliser."""
        critic = CriticPass(self._critic)
        return torch.cat([critic.forward(chunk)[0, :, 0] for chunk in torch.split(input_BI, _CHUNK)])


def _open(document: dict[str, Any], sizes: tuple[int, ...], critic_width: int) -> _Stored | None:
    """Return the value critic of a checkpoint, or None if it is missing, damaged, or does not fit."""
    try:
        stored = _Stored(
            Critics.from_document(document["value"]), CriticInputs.from_document(document), document["value_adam"]
        )
        moments, shape = stored.moments, stored.critic.vector.shape
        fits = (stored.critic.count, stored.critic.sizes) == (1, sizes)
        if moments is not None:
            fits &= moments["exp_avg"].shape == moments["exp_avg_sq"].shape == shape and int(moments["step"]) >= 0
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        return None
    return stored if fits and stored.inputs.width == critic_width else None
