"""Random models for a client, and models that it must not run."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.model import LOG_STD_START, PROBE_SIZE, Dense, Lineage, Model, Probe, Stack


def random_model(contract: PolicyContract, hidden: tuple[int, ...], version: int) -> Model:
    """Return a random model with a correct probe; each version has other weights.

    Its means are well inside [-1, 1], so that the models of two versions are told apart by the recorded log_probs.
    """
    rng = np.random.default_rng([version, 19])
    sizes = (contract.observation_size, *hidden)

    def dense(inputs: int, outputs: int) -> Dense:
        weights = rng.normal(0.0, inputs**-0.5, size=(outputs, inputs))
        return Dense(weights.astype(np.float32), rng.normal(0.0, 0.2, size=outputs).astype(np.float32))

    def stack(outputs: int) -> Stack:
        layers = tuple(dense(a, b) for a, b in pairwise(sizes))
        return Stack(layers, dense(sizes[-1], outputs))

    space = contract.action_space
    width = space.output_size if isinstance(space, ContinuousActions) else 0
    model = Model(
        contract=contract,
        policy=stack(space.output_size),
        value_function=stack(1),
        action_log_std=np.full(width, LOG_STD_START, dtype=np.float32) - np.float32(0.1 * (version % 4)),
        policy_version=version,
        probe=None,
        lineage=Lineage(cycle=version, epoch=1),
    )
    observations = rng.normal(size=(PROBE_SIZE, contract.observation_size)).astype(np.float32)
    return dataclasses.replace(model, probe=Probe(observations, model.mean(observations), model.value(observations)))


def with_wrong_probe(model: Model) -> Model:
    """Return the model with a probe whose means are those of another network."""
    assert model.probe is not None
    return dataclasses.replace(
        model, probe=dataclasses.replace(model.probe, means=-model.probe.means - np.float32(0.1))
    )


def with_other_observations(model: Model, hidden: tuple[int, ...]) -> Model:
    """Return a model of the same version for one observation more."""
    contract = model.contract
    larger = PolicyContract(observation_size=contract.observation_size + 1, action_space=contract.action_space)
    return random_model(larger, hidden, model.policy_version)
