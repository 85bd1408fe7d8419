"""How well one step is predicted with and without the mirror, to find out whether a declared mirror is right.

Two models predict the change of each observation and the reward from observation and action. One is fitted to half of
the experiences as they are, the other one to the same experiences and their mirror images. Both are tested on the other
half, as it is. If the mirror is right, the images are more data of the same game, and the second model is as good as
the first. If it is wrong, they contradict the experiences, and the second model's error is larger.

Agents that turn to one side only do not see both sides alike, and what they do not observe (the road ahead) differs
between the sides. So experiences count less, the clearer they are from one side: with weight 1 - p^2, if p in [-1, 1]
is a prediction of whether an observation is an original (1) or an image (-1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.mirror import Mirror
from schemas.rollout.rollout import Bools
from trainer.common.shapes import Float64, Int64

RANDOM_FEATURES = 128
"""ReLU features with random weights; each also exists with mirrored weights, so that both models can be symmetric."""
_WEIGHT_SCALE = 1.5
_RIDGE = 1e-3
_LARGEST_ERROR = 25.0
"""Squared errors above this, in units of the variance, are cut."""
_USUAL, _JUMP = 0.8, 4.0
"""A change above four times the 80 % quantile is limited to it."""
_SMALLEST_USUAL = 0.01
"""Nothing is limited if this quantile is below this part of the deviation: then the rare changes are what matters."""
_FLOOR = 0.02
"""Errors below this part of the variance do not matter: both models are good."""
_CONSTANT = 1e-6
_FOLDS = 2


class StepColumns(NamedTuple):
    """Steps with what followed. Letters: see trainer.common.shapes."""

    observation_BO: Float64
    action_BA: Float64  #: numbers, or one column for each choice
    next_observation_BO: Float64
    reward_B: Float64
    block_B: Int64  #: the number of the block of consecutive steps


class Excess(NamedTuple):
    """How much larger the error of the model that learned from the mirror is. One number for each observation [O + 1].

    The last number is the reward's. Observations that swap have the mean of both.
    """

    ratio: Float64  #: 0 = no difference, 1 = twice as large
    significance: Float64  #: the mean over the blocks, in units of its standard error
    overlap: float  #: mean weight of the steps: 0 = no mirror image looks like a step, 1 = all do


class _Sides(NamedTuple):
    """A column of the experiences, and of their mirror images."""

    original: Float64
    image: Float64


def mirror_excess(
    steps: StepColumns, images: StepColumns, mirror: Mirror, context: tuple[Float64, Float64] | None = None
) -> Excess:
    """Compare the two models. `context` has further inputs of the steps and of their images, such as the step before.

    The columns of the context must have the layout of observation and action, one after the other.
    """
    inputs = _Sides(*(np.concatenate([side.observation_BO, side.action_BA], axis=1) for side in (steps, images)))
    index = np.append(mirror.observation_index_O, len(mirror.observation_index_O) + mirror.output_index_K)
    sign = np.append(mirror.observation_sign_O, mirror.output_sign_K).astype(np.float64)
    if context is not None:
        inputs = _Sides(*(np.concatenate(pair, axis=1) for pair in zip(inputs, context, strict=True)))
        index, sign = np.append(index, index + len(index)), np.append(sign, sign)
    targets = _scaled(_Sides(*_without_jumps(*map(_targets, (steps, images)))), centred=False)
    features = _features(_scaled(inputs, centred=True), index, sign)
    fold_B = np.random.default_rng(1).permutation(int(steps.block_B.max()) + 1)[steps.block_B] % _FOLDS
    weight_B = np.empty(len(fold_B))
    free, mirrored = np.empty_like(targets.original), np.empty_like(targets.original)
    for fold in range(_FOLDS):
        train, test = fold_B != fold, fold_B == fold
        weight_B[test] = _overlap(features, train, test)
    for fold in range(_FOLDS):
        train, test = fold_B != fold, fold_B == fold
        both = _Gram.of(features.original[train], targets.original[train], weight_B[train])
        for errors, gram in (
            (free, both),
            (mirrored, both.plus(_Gram.of(features.image[train], targets.image[train], weight_B[train]))),
        ):
            errors[test] = np.square(targets.original[test] - features.original[test] @ gram.solution())
    return _excess(free, mirrored, weight_B, steps.block_B, mirror)


def _targets(steps: StepColumns) -> Float64:
    return np.concatenate([steps.next_observation_BO - steps.observation_BO, steps.reward_B[:, None]], axis=1)


def _without_jumps(original: Float64, image: Float64) -> tuple[Float64, Float64]:
    """Limit changes to a few times the usual one: a rare crash or teleport must not hide everything else."""
    both = np.concatenate([original, image])
    usual = np.quantile(np.abs(both), _USUAL, axis=0)
    limit = np.where(usual > _SMALLEST_USUAL * both.std(axis=0), _JUMP * usual, np.inf)
    return np.clip(original, -limit, limit), np.clip(image, -limit, limit)


def _scaled(sides: _Sides, *, centred: bool) -> _Sides:
    """Return the columns with deviation 1, and mean 0 if `centred`, over both sides. Constant columns become 0."""
    mean = (sides.original.mean(axis=0) + sides.image.mean(axis=0)) / 2
    square = (np.square(sides.original - mean).mean(axis=0) + np.square(sides.image - mean).mean(axis=0)) / 2
    largest = np.maximum(np.abs(sides.original).max(axis=0), np.abs(sides.image).max(axis=0))
    std = np.sqrt(square)
    factor = np.where(std > _CONSTANT * largest, 1.0 / np.maximum(std, 1e-300), 0.0)
    shift = mean if centred else np.zeros_like(mean)
    return _Sides((sides.original - shift) * factor, (sides.image - shift) * factor)


def _features(inputs: _Sides, index: Int64, sign: Float64) -> _Sides:
    """Return a constant, the inputs and random ReLU features, which swap or stay if the inputs are mirrored."""
    rng, size = np.random.default_rng(0), inputs.original.shape[1]
    weight = rng.normal(size=(size, RANDOM_FEATURES)) * (_WEIGHT_SCALE / np.sqrt(size))
    bias = rng.uniform(-_WEIGHT_SCALE, _WEIGHT_SCALE, RANDOM_FEATURES)
    weight, bias = np.concatenate([weight, weight[index] * sign[:, None]], axis=1), np.append(bias, bias)

    def features(side: Float64) -> Float64:
        return np.concatenate([np.ones((len(side), 1)), side, np.maximum(side @ weight + bias, 0.0)], axis=1)

    return _Sides(*map(features, inputs))


class _Gram(NamedTuple):
    """The sums of a weighted least-squares fit."""

    square: Float64
    product: Float64
    weight: float

    @classmethod
    def of(cls, features: Float64, targets: Float64, weight_B: Float64) -> _Gram:
        weighted = features * weight_B[:, None]
        return cls(weighted.T @ features, weighted.T @ targets, float(weight_B.sum()))

    def plus(self, other: _Gram) -> _Gram:
        return _Gram(self.square + other.square, self.product + other.product, self.weight + other.weight)

    def solution(self) -> Float64:
        ridge = np.diag(np.full(len(self.square), _RIDGE * self.weight + 1e-12))
        return np.asarray(np.linalg.solve(self.square + ridge, self.product), dtype=np.float64)


def _overlap(features: _Sides, train: Bools, test: Bools) -> Float64:
    """Return 1 - p^2 of the test steps. The prediction p of a step and of its image have opposite signs."""
    difference = features.original - features.image
    gram = _Gram.of(difference[train], np.ones((int(train.sum()), 1)), np.ones(int(train.sum())))
    p_B = np.clip(difference[test] @ gram.solution(), -1.0, 1.0)[:, 0]
    return np.asarray(1.0 - np.square(p_B), dtype=np.float64)


def _excess(free: Float64, mirrored: Float64, weight_B: Float64, block_B: Int64, mirror: Mirror) -> Excess:
    pair = np.append(mirror.observation_index_O, len(mirror.observation_index_O))
    free, mirrored = (np.minimum(errors, _LARGEST_ERROR) * weight_B[:, None] for errors in (free, mirrored))
    free, mirrored = ((errors + errors[:, pair]) / 2 for errors in (free, mirrored))
    total = max(float(weight_B.sum()), 1e-12)
    ratio = (mirrored.sum(axis=0) - free.sum(axis=0)) / (free.sum(axis=0) + _FLOOR * total)
    blocks = int(block_B.max()) + 1
    difference = np.stack([np.bincount(block_B, column, minlength=blocks) for column in (mirrored - free).T], axis=1)
    noise = np.sqrt(np.square(difference - difference.mean(axis=0)).sum(axis=0))
    return Excess(ratio, difference.sum(axis=0) / np.maximum(noise, 1e-12 * total), float(weight_B.mean()))
