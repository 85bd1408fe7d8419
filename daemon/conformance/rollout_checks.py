"""What is wrong with a rollout that a client wrote, and which model it was written with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions
from schemas.errors import HotlapError
from schemas.model import NOISE_STD_MIN, Model
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import Rollout

LOG_PROB_TOLERANCE = 1e-3
"""Largest difference between a recorded and a computed log density that rounding explains."""
_LEAST_SHARE = 0.95
_MOST_REPEATED = 0.1
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """Something that a client does wrong."""

    heading: str  #: the section of docs/reference/formats.md, or of docs/guides/other-engine.md, that it breaks
    text: str

    def line(self) -> str:
        """Return the mistake in one line."""
        return f"[{self.heading}] {self.text}"


@dataclass(frozen=True, slots=True)
class Examined:
    """One rollout after its examination."""

    name: str
    rollout: Rollout | None  #: None if it cannot be read
    version: int | None  #: of the model that its log_probs fit; None if they fit none
    mistakes: tuple[Mistake, ...]


def examine(name: str, data: bytes, rules: ReadingRules, models: Sequence[Model]) -> Examined:
    """Read a rollout as the daemon does, and compare it with the published models."""
    try:
        rollout = read_rollout(data, rules)
    except HotlapError as error:
        return Examined(name, None, None, (Mistake("Rollout JSON", f"the daemon rejects a rollout: {error.line()}"),))
    mistakes = [*_values_that_are_not_finite(rollout), *_agents(rollout), *_bounds(rollout)]
    if np.isnan(rollout.log_probs).all():
        mistakes.append(Mistake("Version 1", "no step has a `log_prob`: its policy is unknown to the daemon"))
        return Examined(name, rollout, None, tuple(mistakes))
    version = _version_of(rollout, models)
    if version is None:
        mistakes.append(_why_none_fits(rollout, models))
    elif rollout.policy_version not in {None, version}:
        text = f"a rollout names policy_version {rollout.policy_version}, but its log_probs are those of {version}"
        mistakes.append(Mistake("Version 2", text))
    return Examined(name, rollout, version, tuple(mistakes))


def repeated_share(rollout: Rollout, earlier: Rollout) -> float:
    """Return which share of the experiences the earlier rollout contains as well."""
    known = {row.tobytes() for row in _rows(earlier)}
    return float(np.mean([row.tobytes() in known for row in _rows(rollout)]))


def repeats(rollout: Rollout, earlier: Rollout) -> list[Mistake]:
    """Return the mistake of a client that does not empty its buffer after an export."""
    share = repeated_share(rollout, earlier)
    if share <= _MOST_REPEATED:
        return []
    text = f"a rollout repeats {share:.0%} of the experiences of the one before: empty the buffer after an export"
    return [Mistake("Repeated data", text)]


def _rows(rollout: Rollout) -> npt.NDArray[np.float32]:
    return np.hstack([rollout.observations, rollout.actions, rollout.log_probs[:, None]])


def _values_that_are_not_finite(rollout: Rollout) -> list[Mistake]:
    return [
        Mistake(
            "Encodings and values that are not finite",
            f"{cause.rows} steps have {cause.value} in {cause.column}: these steps are left out",
        )
        for cause in rollout.causes
    ]


def _agents(rollout: Rollout) -> list[Mistake]:
    if rollout.recovered is None:
        return []
    text = f"about {rollout.recovered.agents} agents share an `agent_index`: give each agent its own"
    return [Mistake("Order, bounds and choices", text)]


def _bounds(rollout: Rollout) -> list[Mistake]:
    space = rollout.contract.action_space
    if not isinstance(space, ContinuousActions):
        return []
    low, high = np.array(space.low, np.float32), np.array(space.high, np.float32)
    outside = (rollout.actions < low) | (rollout.actions > high)
    return [
        Mistake("Model JSON", f"{count} actions `{name}` are outside of their bounds: record the clamped action")
        for name, count in zip(space.names, outside.sum(axis=0).tolist(), strict=True)
        if count
    ]


def _version_of(rollout: Rollout, models: Sequence[Model]) -> int | None:
    """Return the version of the newest model whose log densities are those that were recorded."""
    for model in reversed(models):
        if not _computes(model, rollout):
            continue
        fits = [np.mean(_fits(rollout, each)) for each in log_probs_of(rollout, model)]
        if max(fits, default=0.0) >= _LEAST_SHARE:
            return model.policy_version
    return None


def _computes(model: Model, rollout: Rollout) -> bool:
    return model.contract.observation_size == rollout.contract.observation_size


def _fits(rollout: Rollout, computed: Float64) -> npt.NDArray[np.bool_]:
    difference = np.abs(rollout.log_probs - computed)
    return difference <= LOG_PROB_TOLERANCE * np.maximum(1.0, np.abs(computed))


def log_probs_of(rollout: Rollout, model: Model) -> list[Float64]:
    """Return the log probabilities of the recorded actions, in each unit that the contract allows."""
    space, outputs = rollout.contract.action_space, model.mean(rollout.observations).astype(np.float64)
    if not isinstance(space, ContinuousActions):
        logits = outputs - outputs.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        chosen = rollout.actions[:, 0].astype(np.int64)
        return [logits[np.arange(rollout.size), chosen]]
    std = np.exp(model.action_log_std.astype(np.float64)) * _noise(rollout)
    low, high = np.array(space.low), np.array(space.high)
    largest = np.maximum(np.abs(low), np.abs(high))
    actions = rollout.actions.astype(np.float64)
    units = [(actions, np.zeros(len(largest)))]
    if largest.max() > 1.0:  # the game may multiply by the largest bound, or stretch [-1, 1] to the bounds
        units += [(actions / largest, np.log(largest))]
        units += [(2.0 * (actions - low) / (high - low) - 1.0, np.log(0.5 * (high - low)))]
    found = []
    for policy_units, log_size in units:
        density = _density(policy_units, outputs, std)
        found += [density, density - log_size.sum()]
    return found


def _noise(rollout: Rollout) -> float:
    return max(1.0 if rollout.noise_std is None else rollout.noise_std, NOISE_STD_MIN)


def _density(actions: Float64, mean: Float64, std: Float64) -> Float64:
    terms = -0.5 * ((actions - mean) / std) ** 2 - np.log(std) - 0.5 * math.log(2.0 * math.pi)
    return np.asarray(terms.sum(axis=1))


def _why_none_fits(rollout: Rollout, models: Sequence[Model]) -> Mistake:
    """Return the mistake of a rollout whose log_probs fit no published model, with its likely reason."""
    space = rollout.contract.action_space
    if isinstance(space, ContinuousActions):
        inside = (rollout.actions > np.array(space.low)) & (rollout.actions < np.array(space.high))
        rows = inside.all(axis=1)
        for model in (each for each in models if _computes(each, rollout)):
            fits = _fits(rollout, log_probs_of(rollout, model)[0])
            if rows.any() and not rows.all() and fits[rows].mean() >= _LEAST_SHARE:
                text = "`log_prob` is not that of the clamped action: it only fits if nothing was clamped"
                return Mistake("Model JSON", text)
    text = "the recorded `log_prob`s fit no published model: compare mean, action_log_std and the density"
    return Mistake("Model JSON", text)
