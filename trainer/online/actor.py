"""A policy as it acts on many observations at once: the engine's own arithmetic, on one CPU thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions, PolicyContract
from schemas.model import Model, Stack
from trainer.checkpoints.checkpoint import copy_weights
from trainer.checkpoints.export import fold_layers
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Actor:
    """A frozen copy of a policy. Observations are raw, [n, O]; actions are [n, A], or [n, 1] choices."""

    contract: PolicyContract
    policy: Stack
    log_std_A: Float32

    @classmethod
    def of(cls, network: Network, normalisers: Normalisers, contract: PolicyContract) -> Actor:
        """Copy a network as it is now."""
        _, policy_layers, value_layers = copy_weights(network)
        policy, _ = fold_layers(policy_layers, value_layers, normalisers)
        return cls(contract, policy, network.action_log_std.detach().cpu().numpy().copy())

    @classmethod
    def of_model(cls, model: Model) -> Actor:
        """Take a published model's policy."""
        return cls(model.contract, model.policy, model.action_log_std)

    def sample(self, observation_NO: Float32, rng: np.random.Generator) -> Float32:
        """Draw actions as an engine does: from the normal, clamped; or a choice by its probability."""
        output_NK = self.policy(observation_NO)
        space = self.contract.action_space
        if isinstance(space, ContinuousActions):
            noise_NA = rng.standard_normal(output_NK.shape, dtype=np.float32)
            wanted_NA = np.tanh(output_NK) + noise_NA * np.exp(self.log_std_A)
            return _clamped(wanted_NA, space)
        # The largest of logit + Gumbel noise is distributed as the softmax (Gumbel 1954): no sums, no tables.
        noise_NK = -np.log(rng.standard_exponential(output_NK.shape, dtype=np.float32) + np.float32(1e-30))
        return _chosen(output_NK + noise_NK)

    def best(self, observation_NO: Float32) -> Float32:
        """Return the mean, clamped, or the likeliest choice."""
        output_NK = self.policy(observation_NO)
        space = self.contract.action_space
        if isinstance(space, ContinuousActions):
            return _clamped(np.tanh(output_NK), space)
        return _chosen(output_NK)


def _clamped(wanted_NA: Float32, space: ContinuousActions) -> Float32:
    low, high = np.array(space.low, np.float32), np.array(space.high, np.float32)
    return np.asarray(np.clip(wanted_NA, low, high), np.float32)


def _chosen(score_NK: Float32) -> Float32:
    return np.asarray(score_NK.argmax(axis=1)[:, None], np.float32)
