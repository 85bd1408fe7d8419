"""The training set as columns, and as one packed matrix: an epoch is one gather into a shuffled copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from schemas.rollout.rollout import Bools
from trainer.common.shapes import Float64, check_shapes
from trainer.networks.normaliser import ReturnNormaliser
from trainer.rollouts.evaluation import PolicyOutputs, concatenate_outputs

LARGEST_WEIGHT = 10.0
"""Largest weight of an experience, in units of the average weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Experiences as the loss uses them: a whole training set or one minibatch. Letters: see trainer.common.shapes.

    The proximal policy is the one that the ratio is taken against: in a cycle, the parent policy.
    """

    observation_BO: Tensor  #: float32, normalised; or uint8, of images
    action_BC: Tensor  #: float32, encoded by the action distribution
    logp_B: Tensor  #: float32, nats, log likelihood under the proximal policy
    advantage_B: Tensor  #: float32, weighted mean 0 and deviation 1 over the training set
    target_B: Tensor  #: float32, value targets in normalised units
    value_B: Tensor  #: float32, values before this update, in normalised units
    importance_weight_B: Tensor  #: float32, proximal over behaviour policy, capped; mean 1 over the training set

    def __post_init__(self) -> None:
        check_shapes(self)

    @property
    def size(self) -> int:
        """Return the number of experiences."""
        return len(self.logp_B)

    def first(self, n: int) -> Batch:
        """Return the first `n` experiences, or all if there are fewer."""
        return Batch(**{field.name: getattr(self, field.name)[:n] for field in fields(self)})


class PackedSet:
    """A training set on one device, with a buffer for its shuffled copy."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        scalars = torch.stack(
            [batch.logp_B, batch.advantage_B, batch.target_B, batch.value_B, batch.importance_weight_B], dim=1
        )
        are_bytes = batch.observation_BO.dtype == torch.uint8
        self._images = batch.observation_BO.to(device) if are_bytes else None  # four times as large as numbers
        packed = torch.cat([*([] if are_bytes else [batch.observation_BO]), batch.action_BC, scalars], dim=1)
        self._observations, self._actions = 0 if are_bytes else batch.observation_BO.shape[1], batch.action_BC.shape[1]
        self._all = packed.to(device).contiguous()
        self._shuffled = torch.empty_like(self._all)
        self.size = len(packed)

    def shuffled(self, batch_size: int, *, rng: torch.Generator) -> Iterator[Batch]:
        """Yield all experiences once in random order, as views of the buffer; images are copied.

        See `minibatch_sizes` for their sizes.
        """
        order = torch.randperm(self.size, generator=rng).to(self._all.device)
        torch.index_select(self._all, 0, order, out=self._shuffled)
        start = 0
        for size in minibatch_sizes(self.size, batch_size):
            images = None if self._images is None else self._images[order[start : start + size]]
            yield self._view(self._shuffled[start : start + size], images)
            start += size

    def _view(self, rows: Tensor, images: Tensor | None) -> Batch:
        o, c = self._observations, self._observations + self._actions
        logp_B, advantage_B, target_B, value_B, importance_weight_B = rows[:, c:].unbind(dim=1)
        return Batch(
            observation_BO=rows[:, :o] if images is None else images,
            action_BC=rows[:, o:c],
            logp_B=logp_B,
            advantage_B=advantage_B,
            target_B=target_B,
            value_B=value_B,
            importance_weight_B=importance_weight_B,
        )


def minibatch_sizes(n: int, batch_size: int) -> list[int]:
    """Return the sizes of about n / batch_size minibatches, which add up to `n` and differ by at most one."""
    count = max(1, round(n / batch_size))
    small, larger = divmod(n, count)
    return [small + 1] * larger + [small] * (count - larger)


@dataclass(frozen=True, slots=True)
class TrainingColumns:
    """The columns of the training set."""

    observation_BO: torch.Tensor
    outputs: PolicyOutputs
    value_B: Float64
    advantage_B: Float64
    target_B: Float64
    weight_B: Float64
    returns: ReturnNormaliser

    def followed_by(
        self, observation_BO: torch.Tensor, outputs: PolicyOutputs, value_B: Float64, *, weight_B: Float64
    ) -> TrainingColumns:
        """Return these columns, then those of the mirror images, which have the same advantages and targets."""
        return TrainingColumns(
            torch.cat([self.observation_BO, observation_BO]),
            concatenate_outputs([self.outputs, outputs]),
            np.append(self.value_B, value_B),
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
            advantage_B=as_float32(standardised(self.advantage_B[rows_B], importance_weight_B)),
            target_B=as_float32(self.returns.targets(self.target_B[rows_B])),
            value_B=as_float32(self.returns.normalised(self.value_B[rows_B])),
            importance_weight_B=as_float32(importance_weight_B),
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


def as_float32(column: Float64) -> torch.Tensor:
    """Return a column as a float32 tensor."""
    return torch.from_numpy(column.astype(np.float32))
