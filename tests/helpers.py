"""Helpers for several tests: rollouts and models, a fake clock and log, and a context in a temporary folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from daemon.ledger.ledger import Ledger
from daemon.runtime.clock import Clock
from daemon.runtime.context import Context
from schemas.contract import ContinuousActions, PolicyContract
from schemas.model import Dense, Lineage, Model, Probe, Stack, model_to_bytes
from schemas.rollout.rollout import Rollout
from schemas.settings.models import Settings
from schemas.storage.layout import ProjectPaths

DATA = Path(__file__).parent / "data"
SAMPLES = DATA / "rollouts"


def make_rollout(*, n: int = 64, observation_size: int = 15, agents: int = 4, seed: int = 0) -> Rollout:
    """Return a rollout of random experiences, with several agents interleaved."""
    rng = np.random.default_rng(seed)
    space = ContinuousActions.named(("steer", "throttle", "brake"))
    low, high = np.array(space.low), np.array(space.high)
    return Rollout(
        contract=PolicyContract(observation_size=observation_size, action_space=space),
        observations=rng.normal(size=(n, observation_size)).astype(np.float32),
        actions=np.clip(rng.normal(0.0, 0.5, size=(n, 3)), low, high).astype(np.float32),
        rewards=rng.normal(0.3, 0.1, size=n).astype(np.float32),
        terminated=_ends(rng.random(n) < 0.05, agents),
        truncated=np.zeros(n, dtype=bool),
        log_probs=rng.normal(-1.5, 0.5, size=n).astype(np.float32),
        values=rng.normal(size=n).astype(np.float32),
        agents=(np.arange(n) % agents).astype(np.int32),
        after_gap=np.zeros(n, dtype=bool),
        final_observations=np.zeros((0, observation_size), dtype=np.float32),
        final_agents=np.zeros(0, dtype=np.int32),
        reward_parts={},
        policy_version=None,
        noise_std=None,
        left_out=0,
    )


def _ends(ended: NDArray[np.bool_], agents: int) -> NDArray[np.bool_]:
    """Return the ends without those of the same agent that follow another one at once."""
    for row in range(agents, len(ended)):
        ended[row] &= not ended[row - agents]
    return ended


def v1_document(rollout: Rollout) -> dict[str, object]:
    """Return a rollout as the version 1 document that an engine would write."""
    space = rollout.contract.action_space
    assert isinstance(space, ContinuousActions)
    experiences = [
        {
            "state": rollout.observations[i].tolist(),
            "action": dict(zip(space.names, rollout.actions[i].tolist(), strict=True)),
            "reward": float(rollout.rewards[i]),
            "done": bool(rollout.terminated[i]),
            "log_prob": float(rollout.log_probs[i]),
            "value": float(rollout.values[i]),
            "advantage": 0.0,
            "return": 0.0,
            "agent_index": int(rollout.agents[i]),
        }
        for i in range(rollout.size)
    ]
    return {"experiences": experiences, "num_experiences": rollout.size, "timestamp": "2026.11.21-12.00.00"}


def v1_bytes(*, seed: int = 0, n: int = 64, observation_size: int = 15) -> bytes:
    """Return the bytes of a version 1 file; each seed has its own content."""
    return orjson.dumps(v1_document(make_rollout(seed=seed, n=n, observation_size=observation_size)))


def write_rollout(folder: Path, index: int, data: bytes | None = None, *, seed: int | None = None) -> Path:
    """Write a rollout to a folder as Unreal does: to a temporary file, which is then renamed."""
    path = folder / f"rollout_{index}_20261121_120000.json"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(v1_bytes(seed=index if seed is None else seed) if data is None else data)
    os.replace(temporary, path)
    return path


def make_model(
    *,
    version: int = 1,
    seed: int = 0,
    hidden: int = 8,
    observation_size: int = 15,
    contract: PolicyContract | None = None,
) -> Model:
    """Return a small random model with a correct probe."""
    rng = np.random.default_rng(seed)
    space = contract.action_space if contract else ContinuousActions.named(("steer", "throttle", "brake"))
    contract = contract or PolicyContract(observation_size=observation_size, action_space=space)
    observation_size, outputs = contract.observation_size, space.output_size

    def dense(inputs: int, outputs: int) -> Dense:
        weights = rng.normal(0.0, inputs**-0.5, size=(outputs, inputs))
        return Dense(weights.astype(np.float32), rng.normal(0.0, 0.1, size=outputs).astype(np.float32))

    def stack(outputs: int) -> Stack:
        return Stack((dense(observation_size, hidden), dense(hidden, hidden)), dense(hidden, outputs))

    model = Model(
        contract=contract,
        policy=stack(outputs),
        value_function=stack(1),
        action_log_std=np.full(outputs if isinstance(space, ContinuousActions) else 0, np.log(0.5), dtype=np.float32),
        policy_version=version,
        probe=None,
        lineage=Lineage(cycle=version, epoch=1),
    )
    observations = rng.normal(size=(8, observation_size)).astype(np.float32)
    return dataclasses.replace(model, probe=Probe(observations, model.mean(observations), model.value(observations)))


def model_bytes(**kwargs: Any) -> bytes:
    """Return the model JSON of `make_model`."""
    return model_to_bytes(make_model(**kwargs))


class FakeClock(Clock):
    """A clock whose time changes only in `pass_s`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1_790_000_000.0

    def monotonic(self) -> float:
        return self.now

    def utc_s(self) -> float:
        return self.wall

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class ListLog:
    """A log that stores its lines in a list."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.lines.append(f"WARNING {text}")

    def error(self, text: str) -> None:
        self.lines.append(f"ERROR {text}")

    def tail(self, n: int) -> tuple[str, ...]:
        return tuple(self.lines[-n:])


def open_context(
    folder: Path,
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    wake: Callable[[], None] | None = None,
) -> Context:
    """Return a context with real folders and a real ledger."""
    paths = ProjectPaths(folder)
    paths.make()
    ledger = Ledger.open(paths.ledger)
    return Context(paths, settings or Settings(), ledger, ListLog(), clock or Clock(), wake or (lambda: None))
