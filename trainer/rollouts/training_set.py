"""From rollouts and a start to a training set and a held-out set: who played, units, advantages, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from schemas.errors import RolloutError
from schemas.job import Job
from schemas.model import PROBE_SIZE
from schemas.rollout.rollout import Bools, Float32
from trainer.checkpoints.parent import Parent
from trainer.common.reporting import Notices
from trainer.common.rng import numpy_rng_for, rng_for
from trainer.common.shapes import Float64
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers, ReturnNormaliser, popart, rescale_inputs
from trainer.rollouts.advantages import advantages, average_returns
from trainer.rollouts.attribution import attribute_rollout
from trainer.rollouts.batch import Batch
from trainer.rollouts.behaviour_policy import CandidatePolicy, PolicySource, PolicySources, importance_weights
from trainer.rollouts.evaluation import PolicyOutputs, concatenate_outputs, evaluate_policy
from trainer.rollouts.experiences import Experiences, concatenate, next_values
from trainer.rollouts.holdout import held_out
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.quality import check_policy_sources, check_staleness

LARGEST_WEIGHT = 10.0
"""No experience counts for more than ten average ones, however unlikely the rest."""
ENOUGH_OVERLAP = 0.7
"""Mean of min(1, start / player) below which an untrained policy learns nothing from an engine's own weights.

Far out in the tails ratios are all but noise, and the units are those of states that a driving agent never sees. Where
the engine is about to load a model of ours, one cycle of patience is worth more than 16 cycles with a bad beginning.
"""
_CANARY_TOLERANCE = 0.05  #: nats
_CANARY_ROWS = 512  #: experiences that it looks at, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributedRollouts:
    """All experiences of a cycle with who played them."""

    experiences: Experiences
    policy_source_B: PolicySources
    behaviour_logp_B: Float64  #: nats; see `behaviour.Played`
    std_scale_B: Float32  #: the engine's factor on the standard deviation
    glance: PolicyOutputs | None = None  #: what the parent says of them; None: `look` runs the network in its new units


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentOutputs:
    """What the start's network says of all experiences."""

    observation_BO: torch.Tensor  #: float32, normalised
    action_BC: torch.Tensor  #: packed
    logp_B: torch.Tensor  #: float32, nats, likelihood
    density_B: torch.Tensor  #: float32, nats, as the engine would record it
    value_B: Float64  #: reward units
    final_value_F: Float64  #: reward units


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """All that the update needs."""

    train: Batch
    held: Batch
    normalisers: Normalisers
    probe: torch.Tensor  #: float32 [p, O], raw observations
    values_only: bool  #: the policy waits for better data; see ENOUGH_OVERLAP


def attribute_rollouts(
    loaded: Sequence[LoadedRollout], parent: Parent, job: Job, notices: Notices
) -> AttributedRollouts:
    """Put the rollouts into agent-major order and find who played each step."""
    parts, players, logps, noises, glances = [], [], [], [], list[PolicyOutputs]()
    behind: list[float] = []
    known: dict[str, CandidatePolicy | None] = {}
    for item in loaded:
        found = attribute_rollout(item, parent, job, known)
        part, played = found.experiences, found.played
        parts.append(part)
        players.append(played.policy_source_B)
        logps.append(played.logp_B)
        noises.append(found.std_scale_B)
        glances += [found.glance] if found.glance is not None else []
        behind += [played.behind] * item.given.is_new
    experiences = concatenate(parts)
    policy_source_B = np.concatenate(players)
    judged = policy_source_B[experiences.is_new_B] if experiences.is_new_B.any() else policy_source_B
    check_policy_sources(judged, anything_trained=parent.trained, notices=notices)
    check_staleness(behind, notices)
    return AttributedRollouts(
        experiences=experiences,
        policy_source_B=policy_source_B,
        behaviour_logp_B=np.concatenate(logps),
        std_scale_B=np.concatenate(noises),
        glance=concatenate_outputs(glances) if glances else None,
    )


def rescale_and_build(
    attributed: AttributedRollouts, parent: Parent, distribution: ActionDistribution, job: Job, notices: Notices
) -> TrainingSet:
    """Set the units, re-express the start's network in them, and make both sets. Raises RolloutError."""
    experiences, settings = attributed.experiences, job.settings
    can_bootstrap_B = experiences.can_bootstrap_B
    if can_bootstrap_B.sum() < 2:
        raise RolloutError(
            "no experience has a next state to learn from", hint="export at least three steps of an agent a file"
        )
    normalisers = _update_normalisers(parent, experiences, settings.gamma)
    seen = parent_outputs(parent.network, distribution, normalisers, attributed)
    rho_B = importance_weights(
        seen.logp_B.double().numpy(),
        seen.density_B.double().numpy(),
        attributed.policy_source_B,
        attributed.behaviour_logp_B,
    )
    _canary(parent.network, distribution, seen, attributed, notices)
    values_only = parent.may_wait and rho_B.mean() < ENOUGH_OVERLAP
    if values_only:
        notices.say(
            "W_FAR_STRANGER",
            f"the engine's own policy is too far from a new one to learn from (overlap {rho_B.mean():.0%}): this cycle "
            "learns values only, and the next begins when the engine has played the published model",
        )
    advantage_B = _advantages(seen, experiences, rho_B, settings.gamma, settings.gae_lambda)
    target_B = seen.value_B + rho_B * advantage_B
    returns = normalisers.returns if not parent.trained else normalisers.returns.updated(target_B[can_bootstrap_B])
    popart(parent.network.stacks().value[-1], normalisers.returns, returns)
    rng = numpy_rng_for(settings.seed, "holdout", job.policy_version)
    held_B = np.zeros(experiences.size, dtype=bool)
    held_B[can_bootstrap_B] = held_out(experiences.segment_B[can_bootstrap_B], settings.holdout_fraction, rng)
    importance_weight_B = np.zeros_like(rho_B) if values_only else rho_B * moves_policy(experiences.is_new_B)
    sets = _Sets(seen, advantage_B, target_B, importance_weight_B, returns)
    return TrainingSet(
        train=sets.batch(can_bootstrap_B & ~held_B),
        held=sets.batch(held_B),
        normalisers=Normalisers(normalisers.observations, returns),
        probe=_probe(experiences, job),
        values_only=values_only,
    )


def moves_policy(is_new_B: Bools) -> Bools:
    """Report which experiences the policy learns from: the new ones, or all where none is new.

    Old ones teach the value function. The policy has already moved along the noise in their advantages; a second time
    would move it further the same way, which costs more than the data is worth (docs/algorithm.md has the figures).
    """
    return is_new_B if is_new_B.any() else np.ones_like(is_new_B)


def _update_normalisers(parent: Parent, experiences: Experiences, gamma: float) -> Normalisers:
    """Take the new observations into the statistics.

    A network that has learned something keeps its function; one that has not simply begins in good units, and its
    returns' units come from what a return is worth without any value function.
    """
    before = parent.normalisers
    unseen_B = experiences.is_new_B
    if not parent.trained and not unseen_B.any():
        unseen_B = np.ones(experiences.size, dtype=bool)
    after = before.observations.updated(experiences.observation_BO[unseen_B]) if unseen_B.any() else before.observations
    if parent.trained:
        rescale_inputs(parent.network.stacks(), before.observations, after)
    return Normalisers(after, before.returns if parent.trained else first_returns(experiences, gamma))


def first_returns(experiences: Experiences, gamma: float) -> ReturnNormaliser:
    """Return the returns' units before there is a value function."""
    returns = average_returns(
        reward_B=experiences.reward_B.astype(np.float64),
        terminated_B=experiences.terminated_B,
        trace_continues_B=experiences.trace_continues_B,
        can_bootstrap_B=experiences.can_bootstrap_B,
        gamma=gamma,
    )
    return ReturnNormaliser().updated(returns)


@torch.no_grad()
def parent_outputs(
    network: Network, distribution: ActionDistribution, normalisers: Normalisers, attributed: AttributedRollouts
) -> ParentOutputs:
    """Return what the network says of all experiences before any training; it is run where nobody has yet."""
    experiences = attributed.experiences
    said = attributed.glance or evaluate_policy(
        network, distribution, normalisers.observations, experiences, attributed.std_scale_B
    )
    return ParentOutputs(
        observation_BO=normalisers.observations(experiences.observation_BO),
        action_BC=said.action_BC,
        logp_B=said.logp_B,
        density_B=said.density_B,
        value_B=normalisers.returns.restored(said.value_B.double().numpy()),
        final_value_F=normalisers.returns.restored(said.final_value_F.double().numpy()),
    )


@torch.no_grad()
def _canary(
    network: Network,
    distribution: ActionDistribution,
    outputs: ParentOutputs,
    attributed: AttributedRollouts,
    notices: Notices,
) -> None:
    """What the parent itself played must be as likely under the network that training starts from, in its new units."""
    own = np.flatnonzero(attributed.policy_source_B == PolicySource.PARENT)
    if not len(own):
        return
    rows = own[:: -(-len(own) // _CANARY_ROWS)]
    output_RK = network(outputs.observation_BO[rows].to(network.action_log_std.device))[0].cpu()
    logp_R = distribution.log_prob(output_RK, network.action_log_std.cpu(), outputs.action_BC[rows])
    apart = float(np.median(np.abs(logp_R.double().numpy() - attributed.behaviour_logp_B[rows])))
    if apart > _CANARY_TOLERANCE:
        notices.say("W_CANARY", f"training does not start from the published policy: log_probs differ by {apart:.2g}")


def _advantages(outputs: ParentOutputs, experiences: Experiences, rho_B: Float64, gamma: float, lam: float) -> Float64:
    return advantages(
        reward_B=experiences.reward_B.astype(np.float64),
        value_B=outputs.value_B,
        next_value_B=next_values(experiences, outputs.value_B, outputs.final_value_F),
        trace_continues_B=experiences.trace_continues_B,
        rho_B=rho_B,
        gamma=gamma,
        lam=lam,
    )


@dataclass(frozen=True, slots=True)
class _Sets:
    """Makes batches of chosen rows."""

    outputs: ParentOutputs
    advantage_B: Float64
    target_B: Float64
    raw_weight_B: Float64
    returns: ReturnNormaliser

    def batch(self, rows_B: Bools) -> Batch:
        """Return the chosen experiences with weights of mean 1 and advantages of weighted mean 0 and deviation 1."""
        rows = torch.from_numpy(np.flatnonzero(rows_B))
        importance_weight_B = unit_weights(self.raw_weight_B[rows_B])
        return Batch(
            observation_BO=self.outputs.observation_BO[rows],
            action_BC=self.outputs.action_BC[rows],
            logp_B=self.outputs.logp_B[rows],
            advantage_B=_float32(standardised(self.advantage_B[rows_B], importance_weight_B)),
            target_B=_float32(self.returns.normalised(self.target_B[rows_B])),
            value_B=_float32(self.returns.normalised(self.outputs.value_B[rows_B])),
            importance_weight_B=_float32(importance_weight_B),
        )


def unit_weights(rho_B: Float64) -> Float64:
    """Scale weights to mean 1, none above LARGEST_WEIGHT before the last scaling; where all are 0 they stay so."""
    average = rho_B.mean()
    if not average > 1e-30:
        return np.zeros_like(rho_B)
    capped_B = np.minimum(rho_B / average, LARGEST_WEIGHT)
    return np.asarray(capped_B / capped_B.mean(), dtype=np.float64)


def standardised(advantage_B: Float64, importance_weight_B: Float64) -> Float64:
    """Return advantages of weighted mean 0 and weighted deviation 1."""
    if not importance_weight_B.any():
        importance_weight_B = np.ones_like(importance_weight_B)
    centred_B = advantage_B - np.average(advantage_B, weights=importance_weight_B)
    deviation = np.sqrt(np.average(np.square(centred_B), weights=importance_weight_B))
    return np.asarray(centred_B / (deviation + 1e-8), dtype=np.float64)


def _float32(column: Float64) -> torch.Tensor:
    return torch.from_numpy(column.astype(np.float32))


def _probe(experiences: Experiences, job: Job) -> torch.Tensor:
    rng = rng_for(job.settings.seed, "probe", job.policy_version)
    rows = torch.randperm(experiences.size, generator=rng)[:PROBE_SIZE]
    return torch.from_numpy(experiences.observation_BO[rows.numpy()])
