"""The racing game with milestones: one car on one track, as a Gymnasium environment for DAgger.

A milestone is reached when the car has driven `checkpoint_m` metres from the start line. Gusts disturb the steering.
They depend on the seed of `reset`, so that one saved state leads to a different episode for each seed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from trainer.envs.racing.car import STEER_MAX, Cars
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.racing.track import LENGTH
from trainer.envs.vec_env import Float32

GUST = 0.06
"""Standard deviation of the gusts, which are added to the steering in [-1, 1]."""
GUST_MEMORY = 0.8
"""Part of a gust that remains one step later."""
AHEAD_M = np.arange(0.0, 62.0, 2.0)
"""Distances ahead of the car, m, at which the expert gets the centreline."""
_MAGIC = b"hotlap.racing/1\n"
_HEADER = struct.Struct("<dd")


class RacingMilestones(gymnasium.Env[Float32, Float32]):
    """One car on one track. Each of the config's `milestones` has `checkpoint_m`, the metres to drive."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_names = RacingSimulation.ACTION_NAMES
    num_envs = 16  #: how many of these environments run at the same time in one process

    def __init__(self, *, milestones: Sequence[Mapping[str, Any]], track: int = 0, gust: float = GUST) -> None:
        self.render_mode = "rgb_array"
        self._checkpoints = {str(m["id"]): _checkpoint_distance(m) for m in milestones}
        self._gust_size = float(gust)
        self._simulation = RacingSimulation(1, seed=0, track=track, tracks=track + 1)
        self._driven, self._gust = 0.0, 0.0
        size = RacingSimulation.OBSERVATION_SIZE
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            RacingSimulation.ACTION_LOW, RacingSimulation.ACTION_HIGH, dtype=np.float32
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Put the car near the start line, driving. The same `seed` leads to the same place and the same gusts."""
        super().reset(seed=seed)
        rng = self.np_random
        spans = ((0.0, 3.0), (-1.5, 1.5), (-0.1, 0.1), (3.0, 8.0))
        arc, offset, heading, speed = (rng.uniform(low, high, 1) for low, high in spans)
        self._simulation.cars = Cars.at_rest(1)
        self._simulation.cars.place(np.arange(1), arc=arc, offset=offset, heading=heading, speed=speed)
        self._simulation.steps[:] = 0
        self._driven, self._gust = float(arc[0]), 0.0
        return self.observe(), self._info()

    def step(self, action: Float32) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Drive for 0.1 s. The episode ends if the car touches a wall."""
        self._gust = (
            GUST_MEMORY * self._gust + self.np_random.normal(0.0, self._gust_size) * (1 - GUST_MEMORY**2) ** 0.5
        )
        disturbed = np.array(action, np.float64)
        disturbed[0] += self._gust
        before = float(self._simulation.cars.arc[0])
        step = self._simulation.step(disturbed[None])
        crashed = bool(step.terminated[0])
        if not crashed:
            distance = (float(self._simulation.cars.arc[0]) - before + LENGTH / 2) % LENGTH - LENGTH / 2
            self._driven += distance
        return step.next_observation[0], float(step.reward[0]), crashed, bool(step.truncated[0]), self._info()

    def observe(self) -> Float32:
        """Return the observations of the racing game, [15]."""
        observation: Float32 = self._simulation.observe()[0]
        return observation

    def expert_state(self) -> dict[str, Any]:
        """Return the state for an expert: the car in track coordinates, and the centreline ahead as the car sees it.

        `speed` m/s; `offset` m left of the centreline; `heading` rad left of its direction; `steer_max` rad at the
        wheels; `ahead` [31, 2], a point of the centreline every 2 m, as metres ahead and left of the car; `curvature`
        [31], 1/m, positive to the left.
        """
        cars, track = self._simulation.cars, self._simulation.tracks
        track_indices = np.repeat(self._simulation.track, len(AHEAD_M))
        arc = (cars.arc + AHEAD_M) % LENGTH
        line = track.at(track_indices, arc)
        position = track.world_xy(self._simulation.track, cars.arc, cars.offset)[0]
        facing = float(track.at(self._simulation.track, cars.arc).heading[0] + cars.heading[0])
        x, y = line.x - position[0], line.y - position[1]
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
        """Return an RGB image [240, 320, 3] from above."""
        return self._simulation.render(0)

    def save_state(self) -> bytes:
        """Return the state of the car, the distance it has driven and the present gust, without future gusts."""
        return _MAGIC + _HEADER.pack(self._driven, self._gust) + self._simulation.save_state()

    def load_state(self, state: bytes) -> None:
        """Restore a saved state; the gusts that follow are those of the last `reset`. Raises ValueError."""
        head = len(_MAGIC) + _HEADER.size
        if len(state) < head or not state.startswith(_MAGIC):
            raise ValueError("the bytes are not a saved state of the racing milestones")
        driven, gust = _HEADER.unpack(state[len(_MAGIC) : head])
        self._simulation.load_state(state[head:])
        self._simulation.steps[:] = 0
        self._driven, self._gust = driven, gust

    def _info(self) -> dict[str, Any]:
        reached = [name for name, distance_m in self._checkpoints.items() if self._driven >= distance_m]
        return {"milestones": reached, "driven_m": self._driven}


def _checkpoint_distance(milestone: Mapping[str, Any]) -> float:
    distance_m = milestone.get("checkpoint_m")
    if isinstance(distance_m, bool) or not isinstance(distance_m, (int, float)) or not distance_m > 0:
        raise ValueError(f"milestone {milestone.get('id')} needs checkpoint_m, a number of metres from the start line")
    return float(distance_m)
