"""From attributed rollouts to a training set and a held-out set: normalisers, advantages, importance weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from schemas.errors import RolloutError
from schemas.job import Job
from schemas.mirror import Mirror
from schemas.model import PROBE_SIZE
from schemas.rollout.rollout import Bools
from schemas.settings.models import TrainerSettings
from trainer.checkpoints.parent import Parent
from trainer.common.reporting.reporter import Notices
from trainer.common.rng import numpy_rng_for, rng_for
from trainer.common.shapes import Float64
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers, ReturnNormaliser, popart, rescale_inputs
from trainer.rollouts.advantages import advantages, average_returns
from trainer.rollouts.batch import Batch, TrainingColumns, as_float32
from trainer.rollouts.behaviour_policy import (
    AttributedRollouts,
    PolicySource,
    importance_weights,
    with_weights_of_unknown_steps,
)
from trainer.rollouts.evaluation import PolicyOutputs, evaluate_policy
from trainer.rollouts.experiences import Experiences, next_values
from trainer.rollouts.holdout import choose_held_out
from trainer.rollouts.meaning.reward_signal import RewardSignal, is_rounding, report
from trainer.rollouts.symmetry.mirrored import mirrored_columns, symmetric_normaliser

ENOUGH_OVERLAP = 0.7
"""Mean of min(1, parent / behaviour policy) below which an untrained policy does not learn from another policy's data.

Importance weights this small are mostly noise, and the normalisers would be those of states that a better policy never
visits. If the engine is about to load a published model, skipping one policy update is better than learning from such
data (measured over 16 cycles).
"""
_CANARY_TOLERANCE = 0.05  #: nats
_CANARY_ROWS = 512  #: largest number of experiences to compare


class ValueCriticOutputs(Protocol):
    """A value function that is not part of the network; see `trainer.worker.value_critic`."""

    def applied_to(self, outputs: PolicyOutputs, experiences: Experiences, normalisers: Normalisers) -> PolicyOutputs:
        """Return the outputs of a network with the values of this function."""


@dataclass(frozen=True, slots=True)
class ValueTargets:
    """What a value function is trained on, besides the network's. Letters: see trainer.common.shapes."""

    target_B: torch.Tensor  #: float32, of all experiences, normalised units
    train_rows: torch.Tensor  #: int64
    held_out_rows: torch.Tensor  #: int64

    @classmethod
    def of(cls, target_B: torch.Tensor, train_B: Bools, held_out_B: Bools) -> ValueTargets:
        """Return the targets with the rows that two masks choose."""
        return cls(target_B, *(torch.from_numpy(np.flatnonzero(mask_B)) for mask_B in (train_B, held_out_B)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The input of an update."""

    network: Network  #: the parent's network, rescaled to `normalisers`; training changes it further
    train: Batch
    held_out: Batch
    normalisers: Normalisers
    probe: torch.Tensor  #: float32 [p, O], raw observations
    trains_policy: bool  #: false: the update leaves the policy as it is, because the data says nothing about actions
    policy_trained: bool  #: whether this cycle or an earlier one has trained the policy
    value_targets: ValueTargets  #: of the experiences in both sets, not of mirror images
    size: int  #: experiences, including those held out; not counting mirror images


def rescale_and_build(
    attributed: AttributedRollouts,
    parent: Parent,
    distribution: ActionDistribution,
    job: Job,
    notices: Notices,
    critic: ValueCriticOutputs | None = None,
    mirror: Mirror | None = None,
) -> TrainingSet:
    """Update the normalisers, rescale the parent's network to them in place, and build both sets.

    With a mirror, both sets also contain the mirror image of each experience.
    Afterwards `parent.network` no longer fits `parent.normalisers`; use the network and the normalisers of the result.
    A `critic` values the states instead of the network. Raises RolloutError.
    """
    experiences, settings, network = attributed.experiences, job.settings, parent.network
    can_bootstrap_B = experiences.can_bootstrap_B
    require_next_states(can_bootstrap_B)
    counts_B = moves_policy(experiences.is_new_B)
    signal = RewardSignal.of(experiences.reward_B[counts_B], experiences.terminated_B[counts_B])
    keeps_policy = signal.is_missing
    normalisers = _update_normalisers(network, parent, experiences, settings.gamma, mirror, keeps_policy=keeps_policy)
    outputs = attributed.parent_outputs or evaluate_policy(
        network, distribution, normalisers.observations, experiences, attributed.std_scale_B
    )
    observation_BO = normalisers.observations(experiences.observation_BO)
    rho_B = _weights(attributed, outputs)
    _check_log_probs(network, distribution, observation_BO, outputs, attributed, notices)
    is_far = not signal.is_missing and _is_too_far(parent, rho_B, notices)
    judged = outputs if critic is None else critic.applied_to(outputs, experiences, normalisers)
    value_B, advantage_B = _values_and_advantages(experiences, judged, rho_B, normalisers.returns, settings)
    target_B = value_B + rho_B * advantage_B
    has_signal = not keeps_policy and not is_rounding(advantage_B[counts_B], value_B, experiences.reward_B)
    report(signal, steps=int(counts_B.sum()), keeps_policy=not has_signal, notices=notices)
    trains_policy = has_signal and not is_far
    value_B = outputs.values_in_reward_units(normalisers.returns)[0]
    images = mirrored_columns(attributed, outputs, network, distribution, normalisers, mirror) if mirror else None
    normalisers = _update_returns(parent, experiences, normalisers, target_B, settings.gamma)
    held_B = choose_held_out_rows(experiences, can_bootstrap_B, job)
    moves_B = counts_B & trains_policy
    weight_B, returns = rho_B * moves_B, normalisers.returns
    columns = TrainingColumns(observation_BO, outputs, value_B, advantage_B, target_B, weight_B, returns)
    if images is not None:
        weight_B = images.rho_B * moves_B
        columns = columns.followed_by(images.observation_BO, images.outputs, images.value_B, weight_B=weight_B)
    masks = can_bootstrap_B & ~held_B, held_B
    return TrainingSet(
        network=network,
        train=columns.batch(masks[0]),
        held_out=columns.batch(masks[1]),
        normalisers=normalisers,
        probe=choose_probe(experiences, job),
        trains_policy=trains_policy,
        policy_trained=parent.trained or trains_policy,
        value_targets=ValueTargets.of(as_float32(returns.targets(target_B)), *masks),
        size=int(can_bootstrap_B.sum()),
    )


def _weights(attributed: AttributedRollouts, outputs: PolicyOutputs) -> Float64:
    """Return the parent's likelihood over that of the behaviour policy, capped [B]."""
    rho_B = importance_weights(
        outputs.logp_B.double().numpy(),
        outputs.density_B.double().numpy(),
        attributed.policy_source_B,
        attributed.behaviour_logp_B,
    )
    return with_weights_of_unknown_steps(rho_B, attributed.policy_source_B, attributed.experiences.segment_B)


def require_next_states(can_bootstrap_B: Bools) -> None:
    """Raise RolloutError if fewer than two experiences can be learned from."""
    if can_bootstrap_B.sum() < 2:
        raise RolloutError(
            "no experience has a next state to learn from", hint="export at least three steps of each agent in a file"
        )


def _is_too_far(parent: Parent, rho_B: Float64, notices: Notices) -> bool:
    """Return whether the policy must wait for data of a published model, and report it; see ENOUGH_OVERLAP."""
    if not parent.may_wait or rho_B.mean() >= ENOUGH_OVERLAP:
        return False
    notices.send(
        "W_FAR_STRANGER",
        f"the engine's policy is too different from the untrained one to learn from (overlap {rho_B.mean():.0%}): "
        "this cycle trains only the value function; the policy learns as soon as the engine uses a published model",
    )
    return True


def _values_and_advantages(
    experiences: Experiences,
    outputs: PolicyOutputs,
    rho_B: Float64,
    returns: ReturnNormaliser,
    settings: TrainerSettings,
) -> tuple[Float64, Float64]:
    """Return the value of each step and its advantage, in reward units."""
    value_B, final_value_F = map(returns.limited, outputs.values_in_reward_units(returns))
    advantage_B = advantages(
        reward_B=experiences.reward_B.astype(np.float64),
        value_B=value_B,
        next_value_B=next_values(experiences, value_B, final_value_F),
        trace_continues_B=experiences.trace_continues_B,
        rho_B=rho_B,
        gamma=settings.gamma,
        lam=settings.gae_lambda,
    )
    return value_B, advantage_B


def moves_policy(is_new_B: Bools) -> Bools:
    """Return which experiences the policy learns from: the new ones, or all if none is new.

    Old ones train only the value function. The policy was already updated along the noise in their advantages; a second
    update would move it further in the same direction, which costs more reward than the data adds.
    """
    return is_new_B if is_new_B.any() else np.ones_like(is_new_B)


def _update_normalisers(
    network: Network,
    parent: Parent,
    experiences: Experiences,
    gamma: float,
    mirror: Mirror | None,
    *,
    keeps_policy: bool,
) -> Normalisers:
    """Return normalisers that include the new observations, and rescale the network's inputs to them.

    A trained network keeps computing the same function. An untrained one is not rescaled; its return normaliser is
    computed from the rewards, without a value function. With `keeps_policy`, the inputs stay as they are, so that the
    policy is the same to the last bit.
    """
    before = parent.normalisers
    counted_B = experiences.is_new_B if parent.trained else moves_policy(experiences.is_new_B)
    after = before.observations
    if counted_B.any() and not keeps_policy:
        after = after.updated(experiences.observation_BO[counted_B])
    if mirror is not None and not keeps_policy:
        after = symmetric_normaliser(after, mirror)
    if not parent.trained:
        return Normalisers(after, first_return_normaliser(experiences, gamma))
    rescale_inputs(network.stacks(), before.observations, after)
    return Normalisers(after, before.returns.reaching(experiences.reward_B, gamma))


def _update_returns(
    parent: Parent, experiences: Experiences, normalisers: Normalisers, target_B: Float64, gamma: float
) -> Normalisers:
    """Return normalisers that include the value targets, and rescale the parent's value head to them."""
    after = before = normalisers.returns
    if parent.trained:
        after = before.updated(target_B[experiences.can_bootstrap_B], return_deviation(experiences, gamma))
    popart(parent.network.stacks().value[-1], before, after)
    return Normalisers(normalisers.observations, after)


def first_return_normaliser(experiences: Experiences, gamma: float) -> ReturnNormaliser:
    """Return the first return normaliser, which does not need a value function."""
    returns = _average_returns(experiences, gamma)
    return ReturnNormaliser().updated(returns).reaching(experiences.reward_B, gamma)


def return_deviation(experiences: Experiences, gamma: float) -> float:
    """Return the standard deviation of the returns, computed without a value function."""
    return float(_average_returns(experiences, gamma).std())


def _average_returns(experiences: Experiences, gamma: float) -> Float64:
    return average_returns(
        reward_B=experiences.reward_B.astype(np.float64),
        terminated_B=experiences.terminated_B,
        trace_continues_B=experiences.trace_continues_B,
        can_bootstrap_B=experiences.can_bootstrap_B,
        gamma=gamma,
    )


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


def choose_held_out_rows(experiences: Experiences, candidate_B: Bools, job: Job) -> Bools:
    """Return which of the candidates a job holds out: whole segments of them."""
    rng = numpy_rng_for(job.settings.seed, "holdout", job.policy_version)
    held_B = np.zeros(experiences.size, dtype=bool)
    held_B[candidate_B] = choose_held_out(experiences.segment_B[candidate_B], job.settings.holdout_fraction, rng)
    return held_B


def choose_probe(experiences: Experiences, job: Job) -> torch.Tensor:
    """Return raw observations for the model's probe, float32 [p, O]."""
    rng = rng_for(job.settings.seed, "probe", job.policy_version)
    rows = torch.randperm(experiences.size, generator=rng)[:PROBE_SIZE]
    return torch.from_numpy(experiences.observation_BO[rows.numpy()]).float()
