"""PPO's clipped loss, proximal and weighted, as a pure function with named results.

The ratio is taken to the policy that the cycle began with, which is what the clip must hold on to; who *played* the
experience only enters as a weight (decoupled PPO, Hilton et al. 2021, arXiv:2110.00641, eq. 5 with truncated weights).
Schulman et al. 2017, arXiv:1707.06347, eq. 7 is the case of all weights 1.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from trainer.rollouts.batch import Batch


class Evaluation(NamedTuple):
    """What the network says of a minibatch now; carries gradients."""

    logp_B: Tensor  #: nats, log likelihood of the actions
    value_B: Tensor  #: normalised units
    entropy: Tensor  #: (), nats, mean


class LossConfig(NamedTuple):
    """The numbers that the loss is tuned with."""

    clip_range: float
    value_clip_range: float | None  #: normalised units; None = not clipped
    value_coef: float
    entropy_coef: float


class LossTerms(NamedTuple):
    """Scalars (). Only `total` needs a gradient; all stay on the device until an epoch is over."""

    total: Tensor
    policy_loss: Tensor
    value_loss: Tensor  #: mean squared error in normalised units
    entropy: Tensor  #: nats
    approx_kl: Tensor  #: nats, start to now, the k3 estimator: unbiased, never negative (Schulman 2020)
    clip_fraction: Tensor  #: in [0, 1]


class Loss(Protocol):
    """The signature that a loss of yours has; see docs/custom.md."""

    def __call__(self, batch: Batch, new: Evaluation, config: LossConfig) -> LossTerms:
        """Return the terms of one minibatch."""


def ppo_loss(batch: Batch, new: Evaluation, config: LossConfig) -> LossTerms:
    """Loss of one minibatch. `batch` holds the start policy's numbers, `new` the present one's."""
    log_ratio_B = new.logp_B - batch.logp_B
    ratio_B = log_ratio_B.exp()
    clipped_B = ratio_B.clamp(1.0 - config.clip_range, 1.0 + config.clip_range)
    surrogate_B = (ratio_B * batch.advantage_B).minimum(clipped_B * batch.advantage_B)
    policy_loss = -(batch.importance_weight_B * surrogate_B).mean()
    value_loss = value_error(batch, new.value_B, config.value_clip_range)
    detached_B = ratio_B.detach()
    clip_fraction = (detached_B != clipped_B.detach()).float().mean()
    # Where the clip holds the policy back, nothing else would stand against the bonus: it is held back alike.
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
    """Mean squared error to the targets; with a clip range the larger of it and that of the clipped move."""
    error_B = (value_B - batch.target_B).square()
    if clip_range is None:
        return error_B.mean()
    moved_B = batch.value_B + (value_B - batch.value_B).clamp(-clip_range, clip_range)
    return error_B.maximum((moved_B - batch.target_B).square()).mean()
