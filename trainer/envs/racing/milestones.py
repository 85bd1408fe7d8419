"""The racing world cut into milestones: one car, checkpoints along one track, as a Gymnasium environment.

A milestone is reached once the car has come `checkpoint_m` metres from the start line. Gusts push the wheel, drawn
from the seed that `reset` was given; so one saved state gives as many different episodes as there are seeds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from trainer.envs.racing.car import STEER_MAX, Cars
from trainer.envs.racing.render import frame
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.racing.track import LENGTH, Floats32

GUST = 0.06
"""Deviation of what a gust adds to the steering, which lies in [-1, 1]."""
GUST_MEMORY = 0.8
"""Part of a gust that is left a step later."""
AHEAD_M = np.arange(0.0, 62.0, 2.0)
"""Where ahead of the car the expert is told the track, m."""
_MAGIC = b"hotlap.racing/1\n"
_ABOUT = struct.Struct("<dd")


class RacingMilestones(gymnasium.Env[Floats32, Floats32]):
    """One car on one track. `milestones` are the records of the config; each has `checkpoint_m`, m of driving."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_names = RacingSimulation.ACTION_NAMES
    lanes = 16  #: how many of them may run side by side in one process

    def __init__(self, *, milestones: Sequence[Mapping[str, Any]], track: int = 0, gust: float = GUST) -> None:
        self.render_mode = "rgb_array"
        self._checkpoints = {str(m["id"]): _distance_of(m) for m in milestones}
        self._gust_size = float(gust)
        self._world = RacingSimulation(1, seed=0, track=track, tracks=track + 1)
        self._driven, self._gust = 0.0, 0.0
        size = RacingSimulation.OBSERVATION_SIZE
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            RacingSimulation.ACTION_LOW, RacingSimulation.ACTION_HIGH, dtype=np.float32
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats32, dict[str, Any]]:
        """Put the car near the start line, rolling; with `seed` the same place and the same gusts."""
        super().reset(seed=seed)
        rng = self.np_random
        spans = ((0.0, 3.0), (-1.5, 1.5), (-0.1, 0.1), (3.0, 8.0))
        arc, offset, heading, speed = (rng.uniform(low, high, 1) for low, high in spans)
        self._world.cars = Cars.standing(1)
        self._world.cars.place(np.arange(1), arc=arc, offset=offset, heading=heading, speed=speed)
        self._world.steps[:] = 0
        self._driven, self._gust = float(arc[0]), 0.0
        return self.observe(), self._info()

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """Drive for 0.1 s. The episode is over when the car touches a wall."""
        self._gust = (
            GUST_MEMORY * self._gust + self.np_random.normal(0.0, self._gust_size) * (1 - GUST_MEMORY**2) ** 0.5
        )
        pushed = np.array(action, np.float64)
        pushed[0] += self._gust
        before = float(self._world.cars.arc[0])
        step = self._world.step(pushed[None])
        crashed = bool(step.terminated[0])
        if not crashed:
            came = (float(self._world.cars.arc[0]) - before + LENGTH / 2) % LENGTH - LENGTH / 2
            self._driven += came
        return step.next_observation[0], float(step.reward[0]), crashed, bool(step.truncated[0]), self._info()

    def observe(self) -> Floats32:
        """What the car sees now, [15]: the observations of the racing game."""
        seen: Floats32 = self._world.observe()[0]
        return seen

    def expert_state(self) -> dict[str, Any]:
        """What an expert is told: the car in the track's coordinates, and the centreline ahead in the car's own.

        speed m/s; offset m left of the centreline; heading rad left of its direction; `ahead` [31, 2], m ahead and
        left of the car, of the centreline every 2 m; `curvature` [31], 1/m, positive to the left.
        """
        cars, track = self._world.cars, self._world.tracks
        which = np.repeat(self._world.track, len(AHEAD_M))
        arc = (cars.arc + AHEAD_M) % LENGTH
        line = track.at(which, arc)
        here = track.world_xy(self._world.track, cars.arc, cars.offset)[0]
        facing = float(track.at(self._world.track, cars.arc).heading[0] + cars.heading[0])
        x, y = line.x - here[0], line.y - here[1]
        ahead = np.stack([x * np.cos(facing) + y * np.sin(facing), y * np.cos(facing) - x * np.sin(facing)], axis=1)
        return {
            "speed": float(cars.speed[0]),
            "offset": float(cars.offset[0]),
            "heading": float(cars.heading[0]),
            "steer_max": STEER_MAX,
            "ahead": ahead.astype(np.float32),
            "curvature": line.curvature.astype(np.float32),
        }

    def render(self) -> NDArray[np.uint8]:
        """Return an RGB frame [240, 320, 3] from above."""
        return frame(self._world)

    def save_state(self) -> bytes:
        """The car, how far it came and the gust it is in; not the gusts to come."""
        return _MAGIC + _ABOUT.pack(self._driven, self._gust) + self._world.save_state()

    def load_state(self, state: bytes) -> None:
        """Go back to a saved state; the gusts that follow are those of the last `reset`. Raises ValueError."""
        head = len(_MAGIC) + _ABOUT.size
        if len(state) < head or not state.startswith(_MAGIC):
            raise ValueError("this is no state of the racing milestones")
        driven, gust = _ABOUT.unpack(state[len(_MAGIC) : head])
        self._world.load_state(state[head:])
        self._world.steps[:] = 0
        self._driven, self._gust = driven, gust

    def _info(self) -> dict[str, Any]:
        reached = [name for name, distance_m in self._checkpoints.items() if self._driven >= distance_m]
        return {"milestones": reached, "driven_m": self._driven}


def _distance_of(milestone: Mapping[str, Any]) -> float:
    distance_m = milestone.get("checkpoint_m")
    if isinstance(distance_m, bool) or not isinstance(distance_m, (int, float)) or not distance_m > 0:
        raise ValueError(f"milestone {milestone.get('id')} needs checkpoint_m, the metres from the start line")
    return float(distance_m)
