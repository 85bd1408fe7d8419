"""Toy environments with known answers, and an engine in numpy that uses no code of the trainer for acting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.job import Job, Result, RolloutInput
from schemas.model import Model, read_model
from schemas.rollout.cache import store_rollout
from schemas.rollout.rollout import Rollout
from schemas.settings.models import TrainerSettings
from schemas.storage.files import sha256_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.worker.jobs import run_job

STEER = ContinuousActions.named(("steer", "throttle"))
CHOICE = DiscreteActions(n=3)
HIDDEN = (16, 16)


def columns(n: int, *, observation_size: int = 4, space: Any = STEER, seed: int = 0, **replaced: Any) -> Rollout:
    """Return a rollout of random columns, except for the columns in the arguments."""
    rng = np.random.default_rng(seed)
    if isinstance(space, DiscreteActions):
        actions = rng.integers(0, 3, size=(n, 1)).astype(np.float32)
    else:
        low, high = np.array(space.low), np.array(space.high)
        actions = np.clip(rng.normal(0.0, 0.5, size=(n, space.width)), low, high).astype(np.float32)
    filled: dict[str, Any] = {
        "contract": PolicyContract(observation_size=observation_size, action_space=space),
        "observations": rng.normal(size=(n, observation_size)).astype(np.float32),
        "actions": actions,
        "rewards": rng.normal(size=n).astype(np.float32),
        "terminated": np.zeros(n, dtype=bool),
        "truncated": np.zeros(n, dtype=bool),
        "log_probs": rng.normal(-1.5, 0.5, size=n).astype(np.float32),
        "values": np.zeros(n, dtype=np.float32),
        "agents": np.zeros(n, dtype=np.int32),
        "after_gap": np.zeros(n, dtype=bool),
        "final_observations": np.zeros((0, observation_size), dtype=np.float32),
        "final_agents": np.zeros(0, dtype=np.int32),
        "reward_parts": {},
        "policy_version": None,
        "noise_std": None,
        "left_out": 0,
    }
    return Rollout(**(filled | replaced))


def act(model: Model, observations: np.ndarray, rng: np.random.Generator, noise: float = 1.0) -> tuple[Any, Any]:
    """Sample as an engine does. Return actions [n, A] and the log density, or probability, that it records [n]."""
    output = model.mean(observations).astype(np.float64)
    space = model.contract.action_space
    if isinstance(space, DiscreteActions):
        log_p = output - np.log(np.exp(output).sum(axis=1, keepdims=True))
        choice = (np.exp(log_p).cumsum(axis=1) > rng.random((len(output), 1))).argmax(axis=1)
        return choice[:, None].astype(np.float32), log_p[np.arange(len(output)), choice].astype(np.float32)
    std = np.exp(model.action_log_std.astype(np.float64)) * max(noise, 0.01)
    action = np.clip(output + std * rng.normal(size=output.shape), space.low, space.high).astype(np.float32)
    z = (action - output) / std
    return action, (-0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(axis=1).astype(np.float32)


class Bandit:
    """Eight-step episodes; the best steer is 0.8 * sign of the first observation, the best throttle 0.5.

    With discrete actions, the best choice is the index of the largest of the first three observations.
    """

    def __init__(self, *, space: Any = STEER, agents: int = 8, seed: int = 0, scale: float = 1.0, shift: float = 0.0):
        self.space, self.agents, self.scale, self.shift = space, agents, scale, shift
        self.rng = np.random.default_rng(seed)

    def reward(self, raw: np.ndarray, action: np.ndarray) -> np.ndarray:
        if isinstance(self.space, DiscreteActions):
            return (action[:, 0] == raw[:, :3].argmax(axis=1)).astype(np.float32)
        best = np.stack([0.8 * np.sign(raw[:, 0]), np.full(len(raw), 0.5)], axis=1)
        return (1.0 - np.square(action - best).sum(axis=1)).astype(np.float32)

    def play(self, model: Model, steps: int, *, noise: float = 1.0, **replaced: Any) -> Rollout:
        """Return a rollout of `steps` steps of every agent, interleaved as engines write them."""
        n = steps * self.agents
        raw = self.rng.normal(size=(n, 4)).astype(np.float32)
        observations = (raw * self.scale + self.shift).astype(np.float32)
        action, logp = act(model, observations, self.rng, noise)
        rollout = columns(
            n,
            space=self.space,
            observations=observations,
            actions=action,
            rewards=self.reward(raw, action),
            log_probs=logp,
            terminated=np.repeat(np.arange(1, steps + 1) % 8 == 0, self.agents),
            agents=np.tile(np.arange(self.agents, dtype=np.int32), steps),
        )
        return dataclasses.replace(rollout, **replaced)


class Loop:
    """Runs jobs one after the other, each with the last result as its parent, as the daemon does."""

    def __init__(self, folder: Path, contract: PolicyContract, **settings: Any) -> None:
        self.folder, self.contract = folder, contract
        self.settings = TrainerSettings(**({"epochs": 4, "learning_rate": 1e-3, "device": "cpu"} | settings))
        self.cycle, self.files = 0, 0
        self.reporter = MemoryReporter()
        self.result: Result | None = None

    @property
    def output(self) -> Path:
        return self.folder / f"cycle_{self.cycle:06d}"

    def start(self) -> Model:
        return self._run("initial")

    def given(self, rollout: Rollout, **kwargs: Any) -> RolloutInput:
        """Store a rollout as the daemon does. The last model is its first candidate."""
        self.files += 1
        path = self.folder / f"rollout_{self.files}.npz"
        store_rollout(path, rollout)
        behaviours = (str(self.output / self.result.model),) if self.result else ()
        known = {"name": path.stem, "sha256": sha256_of(path.read_bytes()), "source": "", "cache": str(path)}
        return RolloutInput(**(known | {"is_new": True, "behaviours": behaviours} | kwargs))

    def train(self, *rollouts: Rollout | RolloutInput, **kwargs: Any) -> Model:
        entries = tuple(r if isinstance(r, RolloutInput) else self.given(r) for r in rollouts)
        parent = str(self.output / self.result.checkpoint) if self.result else None
        self.cycle += 1
        return self._run("train", **({"rollouts": entries, "parent": parent} | kwargs))

    def _run(self, kind: Any, **kwargs: Any) -> Model:
        self.output.mkdir(parents=True)
        known = {
            "policy_version": self.cycle,
            "output": str(self.output),
            "contract": self.contract,
            "hidden_sizes": HIDDEN,
        }
        job = Job(**({"kind": kind, "settings": self.settings} | known | kwargs))
        self.reporter = MemoryReporter()
        self.result = run_job(job, self.reporter)
        return read_model((self.output / self.result.model).read_bytes())


def loop_for(env: Bandit, folder: Path, **settings: Any) -> Loop:
    """Return a loop for a bandit."""
    return Loop(folder, PolicyContract(observation_size=4, action_space=env.space), **settings)


class HiddenBandit(Bandit):
    """A bandit whose reward also has a number that only critics can see: constant in an episode, unknown to the policy.

    It changes what an episode is worth, but not the best action. `writes` states whether rollouts contain it.
    """

    def __init__(self, *, writes: bool = True, strength: float = 2.0, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.writes, self.strength = writes, strength
        self.hidden_rng = np.random.default_rng(seed + 1)

    def play(self, model: Model, steps: int, *, noise: float = 1.0, **replaced: Any) -> Rollout:
        """Return a rollout in which the hidden number is a critic observation, in units of its own."""
        rollout = super().play(model, steps, noise=noise)
        episodes = self.hidden_rng.normal(size=(-(-steps // 8), self.agents)).astype(np.float32)
        hidden = np.repeat(episodes, 8, axis=0)[:steps].reshape(-1)
        changes: dict[str, Any] = {"rewards": rollout.rewards + self.strength * hidden}
        if self.writes:
            changes["critic_observations"] = (5.0 + 30.0 * hidden)[:, None].astype(np.float32)
        return dataclasses.replace(rollout, **(changes | replaced))

    def skill(self, model: Model, n: int = 2000) -> float:
        """Return the mean reward of the policy without noise and without the hidden number; 1 is the best."""
        raw = np.random.default_rng(7).normal(size=(n, 4)).astype(np.float32)
        action = np.clip(model.mean(raw * self.scale + self.shift), self.space.low, self.space.high)
        return float(self.reward(raw, action).mean())


def job_with_trained_parent(folder: Path) -> Job:
    """Return a job with a trained parent and three new rollouts, with critic observations."""
    env = HiddenBandit()
    loop = loop_for(env, folder / "before")
    model = loop.train(env.play(loop.start(), 40))
    entries = tuple(loop.given(env.play(model, 40)) for _ in range(3))
    assert loop.result
    parent = loop.output / loop.result.checkpoint
    (folder / "out").mkdir()
    return Job(
        kind="train",
        policy_version=2,
        output=str(folder / "out"),
        contract=loop.contract,
        hidden_sizes=HIDDEN,
        settings=loop.settings,
        rollouts=entries,
        parent=str(parent),
        parent_sha256=sha256_of(parent.read_bytes()),
    )
