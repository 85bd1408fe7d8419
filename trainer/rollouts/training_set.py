"""From attributed rollouts to a training set and a held-out set: normalisers, advantages, importance weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from schemas.errors import RolloutError
from schemas.job import Job
from schemas.mirror import Mirror
from schemas.model import PROBE_SIZE
from schemas.rollout.rollout import Bools
from trainer.checkpoints.parent import Parent
from trainer.common.reporting.reporter import Notices
from trainer.common.rng import numpy_rng_for, rng_for
from trainer.common.shapes import Float64
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers, ReturnNormaliser, popart, rescale_inputs
from trainer.rollouts.advantages import advantages, average_returns
from trainer.rollouts.batch import Batch
from trainer.rollouts.behaviour_policy import (
    AttributedRollouts,
    PolicySource,
    importance_weights,
    with_weights_of_unknown_steps,
)
from trainer.rollouts.evaluation import PolicyOutputs, concatenate_outputs, evaluate_policy
from trainer.rollouts.experiences import Experiences, next_values
from trainer.rollouts.holdout import choose_held_out
from trainer.rollouts.symmetry.mirrored import MirroredColumns, mirrored_columns, symmetric_normaliser

LARGEST_WEIGHT = 10.0
"""Largest weight of an experience, in units of the average weight."""
ENOUGH_OVERLAP = 0.7
"""Mean of min(1, parent / behaviour policy) below which an untrained policy does not learn from another policy's data.

Importance weights this small are mostly noise, and the normalisers would be those of states that a better policy never
visits. If the engine is about to load a published model, skipping one policy update is better than learning from such
data (measured over 16 cycles).
"""
_CANARY_TOLERANCE = 0.05  #: nats
_CANARY_ROWS = 512  #: largest number of experiences to compare


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The input of an update."""

    network: Network  #: the parent's network, rescaled to `normalisers`; training changes it further
    train: Batch
    held_out: Batch
    normalisers: Normalisers
    probe: torch.Tensor  #: float32 [p, O], raw observations
    values_only: bool  #: the policy is not updated in this cycle; see ENOUGH_OVERLAP
    size: int  #: experiences, including those held out; not counting mirror images


def rescale_and_build(
    attributed: AttributedRollouts,
    parent: Parent,
    distribution: ActionDistribution,
    job: Job,
    notices: Notices,
    mirror: Mirror | None = None,
) -> TrainingSet:
    """Update the normalisers, rescale the parent's network to them in place, and build both sets.

    With a mirror, both sets also contain the mirror image of each experience.
    Afterwards `parent.network` no longer fits `parent.normalisers`; use the network and the normalisers of the result.
    Raises RolloutError.
    """
    experiences, settings, network = attributed.experiences, job.settings, parent.network
    can_bootstrap_B = experiences.can_bootstrap_B
    if can_bootstrap_B.sum() < 2:
        raise RolloutError(
            "no experience has a next state to learn from", hint="export at least three steps of each agent in a file"
        )
    normalisers = _update_normalisers(network, parent, experiences, settings.gamma, mirror)
    outputs = attributed.parent_outputs or evaluate_policy(
        network, distribution, normalisers.observations, experiences, attributed.std_scale_B
    )
    observation_BO = normalisers.observations(experiences.observation_BO)
    rho_B = _importance_weights(attributed, outputs)
    _check_log_probs(network, distribution, observation_BO, outputs, attributed, notices)
    values_only = parent.may_wait and _is_too_different(rho_B, notices)
    value_B, final_value_F = outputs.values_in_reward_units(normalisers.returns)
    images = mirrored_columns(attributed, outputs, network, distribution, normalisers, mirror) if mirror else None
    advantage_B = advantages(
        reward_B=experiences.reward_B.astype(np.float64),
        value_B=value_B,
        next_value_B=next_values(experiences, value_B, final_value_F),
        trace_continues_B=experiences.trace_continues_B,
        rho_B=rho_B,
        gamma=settings.gamma,
        lam=settings.gae_lambda,
    )
    target_B = value_B + rho_B * advantage_B
    normalisers = _update_returns(network, parent, normalisers, target_B[can_bootstrap_B])
    held_B = _choose_held_out(experiences, job)
    moves_B = np.zeros_like(experiences.is_new_B) if values_only else moves_policy(experiences.is_new_B)
    columns = _Columns(observation_BO, outputs, value_B, advantage_B, target_B, rho_B * moves_B, normalisers.returns)
    if images is not None:
        columns = columns.followed_by(images, images.rho_B * moves_B)
    return TrainingSet(
        network=network,
        train=columns.batch(can_bootstrap_B & ~held_B),
        held_out=columns.batch(held_B),
        normalisers=normalisers,
        probe=_choose_probe(experiences, job),
        values_only=values_only,
        size=int(can_bootstrap_B.sum()),
    )


def _is_too_different(rho_B: Float64, notices: Notices) -> bool:
    """Return whether an untrained policy should not learn from these experiences, and report it."""
    if rho_B.mean() >= ENOUGH_OVERLAP:
        return False
    notices.send(
        "W_FAR_STRANGER",
        f"the engine's policy is too different from the untrained one to learn from (overlap {rho_B.mean():.0%}): "
        "this cycle trains only the value function; the policy learns as soon as the engine uses a published model",
    )
    return True


def _importance_weights(attributed: AttributedRollouts, outputs: PolicyOutputs) -> Float64:
    """Return the importance weight of each step [B], up to 1."""
    source_B = attributed.policy_source_B
    rho_B = importance_weights(
        outputs.logp_B.double().numpy(), outputs.density_B.double().numpy(), source_B, attributed.behaviour_logp_B
    )
    return with_weights_of_unknown_steps(rho_B, source_B, attributed.experiences.segment_B)


def moves_policy(is_new_B: Bools) -> Bools:
    """Return which experiences the policy learns from: the new ones, or all if none is new.

    Old ones train only the value function. The policy was already updated along the noise in their advantages; a second
    update would move it further in the same direction, which costs more reward than the data adds.
    """
    return is_new_B if is_new_B.any() else np.ones_like(is_new_B)


def _update_normalisers(
    network: Network, parent: Parent, experiences: Experiences, gamma: float, mirror: Mirror | None
) -> Normalisers:
    """Return normalisers that include the new observations, and rescale the network's inputs to them.

    A trained network keeps computing the same function. An untrained one is not rescaled; its return normaliser is
    computed from the rewards, without a value function.
    """
    before = parent.normalisers
    counted_B = experiences.is_new_B
    if not parent.trained and not counted_B.any():
        counted_B = np.ones(experiences.size, dtype=bool)
    after = before.observations
    if counted_B.any():
        after = after.updated(experiences.observation_BO[counted_B])
    if mirror is not None:
        after = symmetric_normaliser(after, mirror)
    if not parent.trained:
        return Normalisers(after, first_return_normaliser(experiences, gamma))
    rescale_inputs(network.stacks(), before.observations, after)
    return Normalisers(after, before.returns)


def _update_returns(network: Network, parent: Parent, normalisers: Normalisers, target_B: Float64) -> Normalisers:
    """Return normalisers that include the value targets, and rescale the network's value head to them."""
    before = normalisers.returns
    after = before.updated(target_B) if parent.trained else before
    popart(network.stacks().value[-1], before, after)
    return Normalisers(normalisers.observations, after)


def first_return_normaliser(experiences: Experiences, gamma: float) -> ReturnNormaliser:
    """Return the first return normaliser, which does not need a value function."""
    returns = average_returns(
        reward_B=experiences.reward_B.astype(np.float64),
        terminated_B=experiences.terminated_B,
        trace_continues_B=experiences.trace_continues_B,
        can_bootstrap_B=experiences.can_bootstrap_B,
        gamma=gamma,
    )
    return ReturnNormaliser().updated(returns)


@torch.no_grad()
def _check_log_probs(
    network: Network,
    distribution: ActionDistribution,
    observation_BO: torch.Tensor,
    outputs: PolicyOutputs,
    attributed: AttributedRollouts,
    notices: Notices,
) -> None:
    """Report if the rescaled network does not compute the parent's log_probs for the parent's own steps."""
    parent_rows = np.flatnonzero(attributed.policy_source_B == PolicySource.PARENT)
    if not len(parent_rows):
        return
    rows = parent_rows[:: -(-len(parent_rows) // _CANARY_ROWS)]
    output_RK = network(observation_BO[rows].to(network.action_log_std.device))[0].cpu()
    logp_R = distribution.log_prob(output_RK, network.action_log_std.cpu(), outputs.action_BC[rows])
    difference = float(np.median(np.abs(logp_R.double().numpy() - attributed.behaviour_logp_B[rows])))
    if difference > _CANARY_TOLERANCE:
        notices.send(
            "W_CANARY", f"training does not start from the published policy: log_probs differ by {difference:.2g}"
        )


def _choose_held_out(experiences: Experiences, job: Job) -> Bools:
    rng = numpy_rng_for(job.settings.seed, "holdout", job.policy_version)
    can_bootstrap_B = experiences.can_bootstrap_B
    held_B = np.zeros(experiences.size, dtype=bool)
    held_B[can_bootstrap_B] = choose_held_out(
        experiences.segment_B[can_bootstrap_B], job.settings.holdout_fraction, rng
    )
    return held_B


def _choose_probe(experiences: Experiences, job: Job) -> torch.Tensor:
    rng = rng_for(job.settings.seed, "probe", job.policy_version)
    rows = torch.randperm(experiences.size, generator=rng)[:PROBE_SIZE]
    return torch.from_numpy(experiences.observation_BO[rows.numpy()])


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of the training set."""

    observation_BO: torch.Tensor
    outputs: PolicyOutputs
    value_B: Float64
    advantage_B: Float64
    target_B: Float64
    weight_B: Float64
    returns: ReturnNormaliser

    def followed_by(self, images: MirroredColumns, weight_B: Float64) -> _Columns:
        """Return these columns, then those of the mirror images, which have the same advantages and targets."""
        return _Columns(
            torch.cat([self.observation_BO, images.observation_BO]),
            concatenate_outputs([self.outputs, images.outputs]),
            np.append(self.value_B, images.value_B),
            np.tile(self.advantage_B, 2),
            np.tile(self.target_B, 2),
            np.append(self.weight_B, weight_B),
            self.returns,
        )

    def batch(self, rows_B: Bools) -> Batch:
        """Return the chosen experiences with weights of mean 1 and advantages of weighted mean 0 and deviation 1.

        If mirror images follow, those of the chosen experiences are chosen as well.
        """
        rows_B = np.tile(rows_B, len(self.weight_B) // len(rows_B))
        rows = torch.from_numpy(np.flatnonzero(rows_B))
        importance_weight_B = unit_weights(self.weight_B[rows_B])
        return Batch(
            observation_BO=self.observation_BO[rows],
            action_BC=self.outputs.action_BC[rows],
            logp_B=self.outputs.logp_B[rows],
            advantage_B=_float32(standardised(self.advantage_B[rows_B], importance_weight_B)),
            target_B=_float32(self.returns.normalised(self.target_B[rows_B])),
            value_B=_float32(self.returns.normalised(self.value_B[rows_B])),
            importance_weight_B=_float32(importance_weight_B),
        )


def unit_weights(rho_B: Float64) -> Float64:
    """Return weights scaled to mean 1, each capped at LARGEST_WEIGHT before the last scaling. All 0 stays all 0."""
    average = rho_B.mean()
    if not average > 1e-30:
        return np.zeros_like(rho_B)
    capped_B = np.minimum(rho_B / average, LARGEST_WEIGHT)
    return np.asarray(capped_B / capped_B.mean(), dtype=np.float64)


def standardised(advantage_B: Float64, importance_weight_B: Float64) -> Float64:
    """Return advantages with weighted mean 0 and weighted deviation 1."""
    if not importance_weight_B.any():
        importance_weight_B = np.ones_like(importance_weight_B)
    centred_B = advantage_B - np.average(advantage_B, weights=importance_weight_B)
    deviation = np.sqrt(np.average(np.square(centred_B), weights=importance_weight_B))
    return np.asarray(centred_B / (deviation + 1e-8), dtype=np.float64)


def _float32(column: Float64) -> torch.Tensor:
    return torch.from_numpy(column.astype(np.float32))
