"""The PPO loss of a minibatch, as a pure function with named results.

The ratio is taken against the proximal policy, which is the one that the cycle began with: the clip limits how far an
update moves from it. The behaviour policy, which generated the data, only enters as an importance weight. This is the
decoupled objective of Hilton, Cobbe and Schulman 2021 (arXiv:2110.00641, eq. 5), with truncated weights w:

    L = -mean(w min(r A, clip(r, 1 - e, 1 + e) A)),    r = pi(a|s) / pi_proximal(a|s)

With all weights 1 it is the clipped objective of Schulman et al. 2017 (arXiv:1707.06347, eq. 7).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from trainer.rollouts.batch import Batch


class Evaluation(NamedTuple):
    """What the network computes now for a minibatch. Its tensors carry gradients."""

    logp_B: Tensor  #: nats, log likelihood of the actions
    value_B: Tensor  #: normalised units
    entropy: Tensor  #: (), nats, mean


class LossConfig(NamedTuple):
    """The settings of the loss."""

    clip_range: float  #: of the ratio, e in the module's formula
    value_clip_range: float | None  #: normalised units; None = not clipped
    value_coef: float
    entropy_coef: float


class LossTerms(NamedTuple):
    """Scalars (). Only `total` needs a gradient. All of them stay on the device until the end of an epoch."""

    total: Tensor
    policy_loss: Tensor
    value_loss: Tensor  #: mean squared error in normalised units
    entropy: Tensor  #: nats
    approx_kl: Tensor  #: nats, KL(proximal policy, policy now): the estimator k3 of Schulman 2020, "Approximating KL"
    clip_fraction: Tensor  #: part of the ratios outside the clip range, in [0, 1]


class Loss(Protocol):
    """The signature of a loss, the built-in one and custom ones; see docs/guides/custom-network.md."""

    def __call__(self, batch: Batch, new: Evaluation, config: LossConfig) -> LossTerms:
        """Return the terms of one minibatch."""


def ppo_loss(batch: Batch, new: Evaluation, config: LossConfig) -> LossTerms:
    """Return the loss of one minibatch: clipped objective, value loss and entropy bonus (Schulman et al. 2017, eq. 9).

    `batch` has the proximal policy's log likelihoods and values, `new` those of the network now. k3 is
    (r - 1) - log r (Schulman 2020, http://joschu.net/blog/kl-approx.html): unbiased, and never negative.
    """
    log_ratio_B = new.logp_B - batch.logp_B
    ratio_B = log_ratio_B.exp()
    clipped_B = ratio_B.clamp(1.0 - config.clip_range, 1.0 + config.clip_range)
    surrogate_B = (ratio_B * batch.advantage_B).minimum(clipped_B * batch.advantage_B)
    policy_loss = -(batch.importance_weight_B * surrogate_B).mean()
    value_loss = value_error(batch, new.value_B, config.value_clip_range)
    detached_B = ratio_B.detach()
    clip_fraction = (detached_B != clipped_B.detach()).float().mean()
    # Clipped experiences have no policy gradient to balance the bonus, so the bonus shrinks with their number.
    bonus = config.entropy_coef * (1.0 - clip_fraction) * new.entropy
    return LossTerms(
        total=policy_loss + config.value_coef * value_loss - bonus,
        policy_loss=policy_loss.detach(),
        value_loss=value_loss.detach(),
        entropy=new.entropy.detach(),
        approx_kl=(batch.importance_weight_B * (detached_B - 1.0 - log_ratio_B.detach())).mean(),
        clip_fraction=clip_fraction,
    )


def value_error(batch: Batch, value_B: Tensor, clip_range: float | None) -> Tensor:
    """Return the mean squared error to the targets.

    With a clip range, the larger one of two errors counts for each experience: that of the value, and that of the
    value clipped to the range around the parent's value (Huang et al. 2022, "The 37 implementation details of PPO",
    detail 9).
    """
    error_B = (value_B - batch.target_B).square()
    if clip_range is None:
        return error_B.mean()
    clipped_B = batch.value_B + (value_B - batch.value_B).clamp(-clip_range, clip_range)
    return error_B.maximum((clipped_B - batch.target_B).square()).mean()
