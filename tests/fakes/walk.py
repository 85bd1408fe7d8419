"""Small worlds for DAgger, each with one trouble that people have reported: a walker on a line of squares.

Actions LEFT and RIGHT. The milestone DOOR is at square 6, GOAL at square 10.
"""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

RIGHT = "def run(state):\n    return 'RIGHT'\n"


class Walk:
    """Works: the others differ from it in one point."""

    metadata = {"render_fps": 10}
    action_names = ("LEFT", "RIGHT")

    def __init__(self, render_mode=None):
        self.observation_space = spaces.Box(-1, 20, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.x, self.t, self.seen = 0, 0, set()

    def see(self):
        return np.array([self.x / 10, 1.0], np.float32)

    def reset(self, *, seed=None, options=None):
        self.x, self.t, self.seen = int(np.random.default_rng(seed).integers(3)), 0, set()
        return self.see(), {}

    def step(self, action):
        self.x = max(0, self.x + (1 if action == 1 else -1))
        self.t += 1
        self.seen |= {name for name, at in (("DOOR", 6), ("GOAL", 10)) if self.x >= at}
        return self.see(), 0.0, False, False, {"milestones": self.report()}

    def report(self):
        return self.seen

    def save_state(self):
        return json.dumps({"x": self.x, "seen": sorted(self.seen)}).encode()

    def load_state(self, data):
        state = json.loads(data)
        self.x, self.seen = state["x"], set(state["seen"])
        return self.see()

    def render(self):
        return np.zeros((32, 64, 3), np.uint8)

    def close(self):
        pass


class Flags(Walk):
    """Reports a dict of flags."""

    def report(self):
        return {name: np.bool_(name in self.seen) for name in ("DOOR", "GOAL")}


class Records(Walk):
    """Reports a dict of objects, as trackers of milestones in games do."""

    def report(self):
        return {name: {"completed": name in self.seen, "timestamp": 0.0} for name in ("DOOR", "GOAL")}


class OtherNames(Walk):
    """Reports names that differ from those of the config."""

    def report(self):
        return [name.lower() for name in self.seen]


class Silent(Walk):
    """Reports no milestones at all."""

    def step(self, action):
        return (*super().step(action)[:4], {})


class Unclear(Walk):
    """Reports how far each milestone is."""

    def report(self):
        return {"DOOR": self.x / 6}


class Remembered(Walk):
    """What was reached stays reached in all later episodes."""

    def reset(self, *, seed=None, options=None):
        before = self.seen
        result = super().reset(seed=seed)
        self.seen = before
        return result


class StuckReached(Walk):
    """The flags of both milestones are set in the start state."""

    def load_state(self, data):
        observation = super().load_state(data)
        self.seen = {"DOOR", "GOAL"}
        return observation


class PathState(Walk):
    """Writes and reads files, as wrappers of emulators do, and returns no observation."""

    def save_state(self, path: str):
        Path(path).write_text(str(self.x))

    def load_state(self, path: str):
        self.x = int(Path(path).read_text())


class NoState(Walk):
    """Cannot save its state."""

    save_state = load_state = None


class NoRender(Walk):
    """Cannot be drawn, and accepts no render mode."""

    metadata = {"render_modes": []}

    def __init__(self, render_mode=None):
        assert render_mode is None
        super().__init__()

    def __getattribute__(self, name):
        if name == "render":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Grid(Walk):
    """A small picture of 7 x 7 x 3 bytes."""

    def __init__(self, render_mode=None):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (7, 7, 3), np.uint8)

    def see(self):
        grid = np.zeros((7, 7, 3), np.uint8)
        grid[self.x % 7, :, 0] = 255
        return grid


class ChannelFirst(Walk):
    """A stack of frames, channels first."""

    def __init__(self, render_mode=None):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (4, 36, 40), np.uint8)

    def see(self):
        image = np.zeros((4, 36, 40), np.uint8)
        image[:, 10:20, 3 * self.x : 3 * self.x + 3] = 255
        return image


class Mission(Walk):
    """A dict with a direction, a picture and a text, as in MiniGrid."""

    def __init__(self, render_mode=None):
        super().__init__()
        self.observation_space = spaces.Dict(
            {
                "direction": spaces.Discrete(4),
                "image": spaces.Box(0, 255, (7, 7, 3), np.uint8),
                "mission": spaces.Text(50),
            }
        )

    def see(self):
        return {"direction": self.x % 4, "image": Grid.see(self), "mission": "go to the door"}


class Raises(Walk):
    """Raises an exception through a library."""

    def step(self, action):
        if self.t == 2:
            np.zeros(2)[:, None] @ np.zeros(3)
        return super().step(action)


class Exits(Walk):
    """Ends the process, as a game does at "Quit"."""

    def step(self, action):
        raise SystemExit(0)


class CannotClose(Walk):
    """Raises an exception when it is closed."""

    def close(self):
        raise RuntimeError("already closed")


class Tuples(Walk):
    """Shows its expert tuples, sets and dicts by place, and changes them afterwards."""

    visited = set()

    def expert_state(self):
        self.visited.add((self.x, 0))
        return {"pos": (self.x, 0), "visited": self.visited, "tiles": {(self.x, 0): "grass"}}


class Spaced(gymnasium.Env):
    """The walker as an environment of Gymnasium, for wrappers."""

    action_names = ("LEFT", "RIGHT")
    num_envs = 3

    def __init__(self):
        self.walk = Walk()
        self.observation_space, self.action_space = self.walk.observation_space, self.walk.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.walk.reset(seed=seed)

    def step(self, action):
        return self.walk.step(action)

    def save_state(self):
        return self.walk.save_state()

    def load_state(self, data):
        return self.walk.load_state(data)


class Tenfold(gymnasium.ObservationWrapper):
    """Multiplies observations by ten."""

    def observation(self, observation):
        return observation * 10


def wrapped():
    """Return the walker in wrappers, which hide its own methods."""
    return gymnasium.wrappers.TimeLimit(Tenfold(Spaced()), 1000)


def job_for(folder, env="Walk", *, experts=None, milestone="DOOR", completed=(), config=None, video=False, **settings):
    """Return the job of one milestone, after writing its expert."""
    from trainer.dagger.messages import MilestoneJob
    from trainer.dagger.milestones import MilestoneConfig
    from trainer.dagger.settings import DaggerSettings

    (folder / "experts").mkdir(exist_ok=True)
    for name in ("DOOR", "GOAL"):
        (folder / "experts" / f"{name}.py").write_text((experts or {}).get(name, RIGHT))
    records = (
        {"id": "DOOR", "max_steps": 30},
        {"id": "GOAL", "starting_state": "DOOR_completed.state", "max_steps": 30},
    )
    document = {"env": env if ":" in env else f"tests.fakes.walk:{env}", "milestones": records, **(config or {})}
    small = {
        "dagger_iterations": 1, "train_steps_per_iter": 20, "hidden_dim": 16, "episodes_per_iter": 2,
        "eval_episodes": 3, "policy_eval_episodes": 2, "final_eval_episodes": 2, "expert_timeout": 20.0,
    }  # fmt: skip
    return MilestoneJob(
        config=MilestoneConfig.model_validate(document),
        milestone_id=milestone,
        settings=DaggerSettings(**{**small, **settings}),
        expert_dir=str(folder / "experts"),
        state_dir=str(folder / "states"),
        output_dir=str(folder / "out"),
        device="cpu",
        record_video=video,
        completed_ids=completed,
    )
