"""The mirror images of experiences: what the proximal policy computes for them, and their importance weights.

In a symmetric game, an experience (s, a) of the behaviour policy b is as likely as its mirror image (Ms, Ma) of the
mirrored behaviour policy b', for which b'(Ma | Ms) = b(a | s). Its reward and what follows are the same. So:

- The proximal policy p is evaluated in the mirrored state: p(Ma | Ms) is not p(a | s) as long as p is not symmetric.
  The ratio of an update starts from 1 only with the former. The value of the mirrored state is computed as well.
- The importance weight is min(1, p(Ma | Ms) / b(a | s)): the policy that generated the mirror image is b', and its
  likelihood is the one that b had. For data of the proximal policy itself, it is p(Ma | Ms) / p(a | s), not 1.
- Advantages and value targets are those of the original: they are sums of rewards, which the mirror does not change,
  and of values as the baseline. Any function of the state is a valid baseline. As the policy becomes symmetric, the
  values of a state and of its mirror image become equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from schemas.mirror import Mirror
from trainer.common.shapes import Float64
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers, ObservationNormaliser
from trainer.rollouts.behaviour_policy import (
    AttributedRollouts,
    PolicySource,
    importance_weights,
    with_weights_of_unknown_steps,
)
from trainer.rollouts.evaluation import PolicyOutputs, evaluate_policy
from trainer.rollouts.experiences import Experiences


@dataclass(frozen=True, slots=True)
class MirroredColumns:
    """What the proximal policy computes for the mirror images. Letters: see trainer.common.shapes."""

    observation_BO: torch.Tensor  #: float32, normalised
    outputs: PolicyOutputs
    value_B: Float64  #: in reward units
    rho_B: Float64  #: importance weights, up to 1


def mirrored_experiences(experiences: Experiences, mirror: Mirror) -> Experiences:
    """Return the mirror images of experiences. Their log_probs are those that were recorded for the originals.

    Critic observations have no mirror: those of the images are not known.
    """
    return replace(
        experiences.without_critic_observations(),
        observation_BO=mirror.observations(experiences.observation_BO),
        action_BA=mirror.actions(experiences.action_BA),
        final_observation_FO=mirror.observations(experiences.final_observation_FO),
    )


def mirrored_columns(
    attributed: AttributedRollouts,
    outputs: PolicyOutputs,
    network: Network,
    distribution: ActionDistribution,
    normalisers: Normalisers,
    mirror: Mirror,
) -> MirroredColumns:
    """Evaluate the proximal policy on the mirror images. `outputs` are its outputs for the originals."""
    images = mirrored_experiences(attributed.experiences, mirror)
    seen = evaluate_policy(network, distribution, normalisers.observations, images, attributed.std_scale_B)
    return MirroredColumns(
        observation_BO=normalisers.observations(images.observation_BO),
        outputs=seen,
        value_B=seen.values_in_reward_units(normalisers.returns)[0],
        rho_B=mirrored_weights(attributed, outputs, seen),
    )


def mirrored_weights(attributed: AttributedRollouts, outputs: PolicyOutputs, seen: PolicyOutputs) -> Float64:
    """Return min(1, proximal policy's likelihood of the image / behaviour policy's likelihood of the original) [B].

    The behaviour policy of PARENT steps is the proximal one. UNKNOWN steps count like those around them; in a segment
    of UNKNOWN steps only, the proximal policy is assumed to have generated them, as for the originals.
    """
    source_B = attributed.policy_source_B
    is_proximal_B = (source_B == PolicySource.PARENT) | (source_B == PolicySource.UNKNOWN)
    rho_B = importance_weights(
        seen.logp_B.double().numpy(),
        seen.density_B.double().numpy(),
        np.where(is_proximal_B, np.int8(PolicySource.PUBLISHED), source_B),
        np.where(is_proximal_B, outputs.logp_B.double().numpy(), attributed.behaviour_logp_B),
    )
    return with_weights_of_unknown_steps(rho_B, source_B, attributed.experiences.segment_B)


def symmetric_normaliser(normaliser: ObservationNormaliser, mirror: Mirror) -> ObservationNormaliser:
    """Return the statistics that include the mirror image of every observation that was counted. `count` stays.

    Two sets of equal size are merged: the mean of the means, and of the variances plus half the squared difference.
    """
    index = torch.from_numpy(mirror.observation_index_O)
    image_O = normaliser.mean_O[index] * torch.from_numpy(mirror.observation_sign_O).double()
    half_O = (normaliser.mean_O - image_O) / 2
    var_O = (normaliser.var_O + normaliser.var_O[index]) / 2 + half_O.square()
    return ObservationNormaliser((normaliser.mean_O + image_O) / 2, var_O, normaliser.count)
