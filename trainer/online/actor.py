"""A policy that acts on many observations at once, on the CPU; on vectors with the engine's arithmetic."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ModelError
from schemas.model import Dense, Model, Stack
from trainer.checkpoints.checkpoint import copy_weights
from trainer.checkpoints.export import fold_layers
from trainer.envs.vec_env import Float32, Observations
from trainer.networks.image_network import ImageActorCritic, ImagePolicy
from trainer.networks.network import Network, Shape
from trainer.networks.normaliser import Normalisers


@dataclass(frozen=True, slots=True)
class Actor:
    """A frozen copy of a policy. Actions are [n, A], or [n, 1] choices.

    Observations [n, O] are not normalised. They are rounded to float32, as in engines.
    """

    contract: PolicyContract
    policy: Stack | ImagePolicy
    log_std_A: Float32

    @classmethod
    def of(cls, network: Network, normalisers: Normalisers, contract: PolicyContract) -> Actor:
        """Return a copy of the network's present policy, with the normaliser folded in."""
        log_std_A = network.action_log_std.detach().cpu().numpy().copy()
        if isinstance(network, ImageActorCritic):
            return cls(contract, ImagePolicy.of(network), log_std_A)
        _, policy_layers, value_layers = copy_weights(network)
        policy, _ = fold_layers(policy_layers, value_layers, normalisers)
        return cls(contract, policy, log_std_A)

    @classmethod
    def of_model(cls, model: Model) -> Actor:
        """Return the policy of a published model."""
        return cls(model.contract, model.policy, model.action_log_std)

    def to_npz(self) -> bytes:
        """Return the weights as an npz file."""
        arrays = {"log_std": self.log_std_A}
        if isinstance(self.policy, ImagePolicy):
            arrays |= self.policy.arrays()
        else:
            for i, layer in enumerate(self.policy.layers()):
                arrays |= {f"weights_{i}": layer.weights, f"biases_{i}": layer.biases}
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **arrays)
        return out.getvalue()

    @classmethod
    def from_npz(cls, data: bytes, contract: PolicyContract, name: str) -> Actor:
        """Return the policy that `to_npz` wrote. Raises ModelError with the name of the file if it cannot be read."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                if "image" in saved.files:
                    arrays = {array: saved[array] for array in saved.files}
                    return cls(contract, ImagePolicy.from_arrays(arrays, Shape.of(contract, ())), saved["log_std"])
                count = (len(saved.files) - 1) // 2
                layers = [Dense(saved[f"weights_{i}"], saved[f"biases_{i}"]) for i in range(count)]
                return cls(contract, Stack(tuple(layers[:-1]), layers[-1]), saved["log_std"])
        except (OSError, EOFError, KeyError, ValueError, IndexError, RuntimeError, zipfile.BadZipFile) as error:
            raise ModelError(f"{name} cannot be read: {error}", hint="start without --resume") from None

    def _outputs(self, observation_NO: Observations) -> Float32:
        if isinstance(self.policy, ImagePolicy):
            return self.policy(observation_NO)
        return self.policy(observation_NO.astype(np.float32, copy=False))

    def sample(self, observation_NO: Observations, rng: np.random.Generator) -> Float32:
        """Return random actions, as engines do: from the normal distribution, clamped; or choices by probability."""
        output_NK = self._outputs(observation_NO)
        space = self.contract.action_space
        if isinstance(space, ContinuousActions):
            noise_NA = rng.standard_normal(output_NK.shape, dtype=np.float32)
            return _clamp(np.tanh(output_NK) + noise_NA * np.exp(self.log_std_A), space)
        # The largest of logit + Gumbel noise is distributed as the softmax (Gumbel 1954).
        noise_NK = -np.log(rng.standard_exponential(output_NK.shape, dtype=np.float32) + np.float32(1e-30))
        return _largest(output_NK + noise_NK)

    def best(self, observation_NO: Observations) -> Float32:
        """Return the policy's mean, clamped, or the most probable choice."""
        output_NK = self._outputs(observation_NO)
        space = self.contract.action_space
        if isinstance(space, ContinuousActions):
            return _clamp(np.tanh(output_NK), space)
        return _largest(output_NK)


def _clamp(action_NA: Float32, space: ContinuousActions) -> Float32:
    low, high = np.array(space.low, np.float32), np.array(space.high, np.float32)
    return np.asarray(np.clip(action_NA, low, high), np.float32)


def _largest(score_NK: Float32) -> Float32:
    return np.asarray(score_NK.argmax(axis=1)[:, None], np.float32)
