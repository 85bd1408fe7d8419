"""The `imitation` package's DAgger on one racing milestone: a task on stdin, a result on stdout.

The same game, seeds, network, batches and gradient steps per round, and in each round as many labels as Hotlap: if
its episodes end early, more episodes are run, and the last one is truncated. With "further_rounds" each round has as
many episodes as Hotlap instead, and rounds are added, with their gradient steps, until it has at least as many labels.

Its experts get only observations. So an observation contains the car's fifteen numbers and then the expert's state;
the learner's network uses only those fifteen.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from imitation.algorithms import bc
from imitation.algorithms.dagger import SimpleDAggerTrainer
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from trainer.common.rng import key_for
from trainer.envs.racing.milestones import AHEAD_M, RacingMilestones

OBSERVATION_SIZE = 15
EXPERT_STATE_SIZE = 4 + 3 * len(AHEAD_M)


class Episodes(gymnasium.Env):
    """The milestone as an episodic task, which ends at success, after a crash or at the time limit."""

    def __init__(self, task: dict[str, Any], seed: int) -> None:
        document = json.loads(Path(task["config"]).read_text())
        self._env = RacingMilestones(milestones=document["milestones"], **document["env_options"])
        milestone = next(m for m in document["milestones"] if m["id"] == task["milestone"])
        start = milestone["starting_state"]
        self._start = (Path(task["states"]) / Path(start).name).read_bytes() if start else None
        self.labels_left = math.inf  #: an episode is truncated after this many
        self._name, self._limit, self._rng = task["milestone"], task["limit"], np.random.default_rng(seed)
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (OBSERVATION_SIZE + EXPERT_STATE_SIZE,), np.float32
        )
        self.action_space = self._env.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._env.reset(seed=int(self._rng.integers(2**31)) if seed is None else seed)
        if self._start is not None:
            self._env.load_state(self._start)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        _, reward, crashed, _, info = self._env.step(action)
        self._steps += 1
        self.labels_left -= 1
        success = self._name in info["milestones"]
        cut = self._steps >= self._limit or self.labels_left <= 0
        return self._observation(), reward, crashed or success, cut, {"success": success}

    def _observation(self) -> Any:
        s = self._env.expert_state()
        expert_state = [[s["speed"], s["offset"], s["heading"], s["steer_max"]], s["ahead"].ravel(), s["curvature"]]
        return np.concatenate([self._env.observe(), *expert_state]).astype(np.float32)


class Pursuit(BasePolicy):
    """The pure-pursuit expert with the interface of a policy."""

    def forward(self, *_: Any) -> Any:
        raise NotImplementedError

    def _predict(self, observation: Any, deterministic: bool = False) -> Any:
        from pursuit import drive

        rows = []
        for row in observation.cpu().numpy()[:, OBSERVATION_SIZE:]:
            ahead = row[4 : 4 + 2 * len(AHEAD_M)].reshape(-1, 2)
            curvature = row[4 + 2 * len(AHEAD_M) :]
            named = dict(zip(("speed", "offset", "heading", "steer_max"), map(float, row[:4]), strict=True))
            rows.append(drive({**named, "ahead": ahead, "curvature": curvature}))
        return torch.tensor(rows, dtype=torch.float32)


class ObservationOnly(BaseFeaturesExtractor):
    """Return the car's observation without the expert's state."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, OBSERVATION_SIZE)

    def forward(self, observation: Any) -> Any:
        return observation[:, :OBSERVATION_SIZE]


def _play(collector: Any, expert: Pursuit) -> int:
    """Run one episode that the expert labels; return its steps."""
    observation, over, steps = collector.reset(), False, 0
    while not over:
        action, _ = expert.predict(observation, deterministic=True)
        observation, _, dones, _ = collector.step(action)
        steps += 1
        over = bool(dones[0])
    return steps


def main() -> None:
    """Run the task from stdin."""
    task = json.load(sys.stdin)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "dagger_racing"))
    torch.set_num_threads(1)
    torch.manual_seed(task["seed"])
    env = Episodes(task, task["seed"])
    venv = DummyVecEnv([lambda: env])
    policy = ActorCriticPolicy(
        venv.observation_space, venv.action_space, lambda _: 3e-4,
        net_arch=[256, 256], activation_fn=torch.nn.ReLU, features_extractor_class=ObservationOnly,
    )  # fmt: skip
    rng = np.random.default_rng(task["seed"])
    learner = bc.BC(
        observation_space=venv.observation_space, action_space=venv.action_space, rng=rng, policy=policy,
        batch_size=64, optimizer_kwargs={"lr": 3e-4}, device="cpu",
    )  # fmt: skip
    expert = Pursuit(venv.observation_space, venv.action_space)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SimpleDAggerTrainer(
            venv=venv, scratch_dir=folder, expert_policy=expert, bc_trainer=learner, rng=rng,
            beta_schedule=lambda number: max(0.0, 1.0 - 0.5 * number),
        )  # fmt: skip
        began, labels, rounds = time.monotonic(), 0, 0
        further = task["further_rounds"]
        while rounds < len(task["labels"]) or (further and labels < sum(task["labels"])):
            env.labels_left = math.inf if further else task["labels"][rounds]
            collector, episodes = trainer.create_trajectory_collector(), 0
            while episodes < task["episodes"] if further else env.labels_left > 0:
                labels += _play(collector, expert)
                episodes += 1
            rounds += 1
            # Without rollouts for its log, which cost time and do not add labels.
            quiet = {"progress_bar": False, "log_interval": 10**9, "log_rollouts_venv": None}
            trainer.extend_and_update({"n_batches": task["steps"], **quiet})
        seconds = time.monotonic() - began
    evaluation_env, wins = Episodes(task, 0), 0
    for k in range(task["final_episodes"]):
        # The episodes that evaluate Hotlap's policies.
        seed = key_for(task["seed"], "dagger", task["milestone"], "final", k) % 2**31
        observation, _ = evaluation_env.reset(seed=seed)
        over = False
        while not over:
            action, _ = policy.predict(observation, deterministic=True)
            observation, _, terminated, truncated, info = evaluation_env.step(action)
            over = terminated or truncated
        wins += info["success"]
    print(json.dumps({"success_rate": wins / task["final_episodes"], "labels": labels, "seconds": seconds}))


if __name__ == "__main__":
    main()
