"""An environment for DAgger: a corridor with random wind, and every kind of action and observation."""

from __future__ import annotations

import json

import gymnasium
import numpy as np

LENGTH = 24


class Corridor(gymnasium.Env):
    """The agent starts near `x` = 0. It reaches a milestone at the milestone's `at`, and fails below -3."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    num_envs = 4

    def __init__(self, *, milestones, actions="discrete", pixels=False, raises_at=None):
        self._at = {m["id"]: m["at"] for m in milestones}
        self._kind, self._pixels, self._raises_at = actions, pixels, raises_at
        self.action_names = ("LEFT", "RIGHT") if actions != "continuous" else ("push",)
        spaces = gymnasium.spaces
        self.action_space = {
            "discrete": spaces.Discrete(2),
            "multi_binary": spaces.MultiBinary(2),
            "continuous": spaces.Box(-4.0, 4.0, (1,), np.float32),
        }[actions]
        shape = (LENGTH, LENGTH, 1) if pixels else (3,)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8) if pixels else spaces.Box(-99, 99, shape)
        self.x = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.5, 0.5))
        return self.observe(), {}

    def step(self, action):
        if self._raises_at is not None and self.x > self._raises_at:
            raise RuntimeError("the floor gives way")
        if self._kind == "discrete":
            push = (-1.0, 1.0)[int(action)]
        elif self._kind == "multi_binary":
            push = float(action[1]) - float(action[0])
        else:
            push = float(action[0]) / 2.0
        self.x = min(self.x + push + float(self.np_random.uniform(-0.3, 0.3)), LENGTH - 1.0)
        reached = [name for name, at in self._at.items() if self.x >= at]
        return self.observe(), 0.0, self.x < -3.0, False, {"milestones": reached}

    def observe(self):
        if not self._pixels:
            return np.array([self.x, self.x**2 / 10.0, 1.0], np.float32)
        picture = np.zeros((LENGTH, LENGTH, 1), np.uint8)
        picture[:, : max(1, int(self.x) + 1)] = 255
        return picture

    def render(self):
        picture = np.zeros((32, LENGTH * 2, 3), np.uint8)
        picture[:, max(0, int(self.x) * 2) :][:, :4] = 255
        return picture

    def save_state(self):
        return json.dumps({"x": self.x}).encode()

    def load_state(self, state):
        self.x = float(json.loads(state)["x"])


RIGHT = {
    "discrete": "def run(state):\n    return 'RIGHT'\n",
    "multi_binary": "def run(state):\n    return [0, 1]\n",
    "continuous": "def run(state):\n    return [2.0]\n",
}


def write_project(folder, *, milestones=(("A", None), ("B", "A")), actions="discrete", experts=None, **options):
    """Write a config and experts; return the arguments for the command line."""
    records = [
        {
            "id": name,
            "starting_state": f"milestone_states/{before}_completed.state" if before else None,
            "max_steps": 60,
            "at": 4.0 * (k + 1),
        }
        for k, (name, before) in enumerate(milestones)
    ]
    config = {
        "env": "tests.fakes.corridor:Corridor",
        "env_options": {"actions": actions, **options},
        "milestones": records,
        "written_by": "a test",
    }
    (folder / "config.json").write_text(json.dumps(config))
    policies = folder / "policies"
    policies.mkdir(exist_ok=True)
    for name, _ in milestones:
        text = (experts or {}).get(name, RIGHT[actions])
        if text is not None:
            (policies / f"{name}.py").write_text(text)
    return [
        "--milestone-config", str(folder / "config.json"), "--policy-dir", str(policies),
        "--state-dir", str(folder / "states"), "--output-dir", str(folder / "out"),
        "--dagger-iterations", "3", "--episodes-per-iter", "2", "--train-steps-per-iter", "30", "--hidden-dim", "16",
        "--eval-episodes", "2", "--policy-eval-episodes", "3", "--final-eval-episodes", "4",
        "--batch-size", "16", "--learning-rate", "0.003",
        "--expert-timeout", "20",
    ]  # fmt: skip
