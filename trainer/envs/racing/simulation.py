"""The racing world: many agents on closed spline tracks, stepped together in whole-array numpy.

Fifteen observations, three actions and the reward of the racing game; needs numpy alone. The geometry is in `track`,
the driving in `car`, the picture in `render`. Agents do not see or touch each other.

    world = RacingSimulation(16, seed=0)
    observation = world.reset()
    step = world.step(action)             # action [16, 3]
    observation = step.observation        # where the next step starts; step.next_observation is the true successor
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.envs.racing.car import GRAVITY, HALF_CAR, SPEED_SCALE, STEP_S, Cars, drive
from trainer.envs.racing.track import HALF_WIDTH, LENGTH, RAY_RANGE, Floats32, Ints, Place, Tracks
from trainer.envs.vec_env import Step

REWARD_SPEED = 16.0  #: m/s that earns about 1 a step
TIME_LIMIT = 5000  #: steps an episode; 500 s, over ten laps: rare, since version 1 rollouts cannot tell it from a crash

_RIDE_HEIGHT = 0.5  #: m from the road to where the rays start
_WALL_HEIGHT = 2.5  #: m
_TILT = np.deg2rad([[10.0], [-10.0]])  #: rad of the forward up and down rays against the body
_SPRING = 0.02  #: m the body sinks a m/s^2 in dips and rises on crests
_NEAR_M = 2.0  #: m between car and wall from which on it is near
_RAY_SCALES = np.array([50.0, 20.0, 20.0, 35.0, 35.0, 50.0, 6.0, 1.0], np.float32)[:, None]  #: m a ray calls 1


class RacingSimulation:
    """n agents, each on one of several tracks, reset to a random place of a random track when its episode ends.

    `track_seed` and `tracks` say which tracks there are, `seed` where agents start; with `track` all use that one.
    `observation_scale` and `observation_shift` spoil the observations' units (x * scale + shift), for benchmarks.
    """

    OBSERVATION_SIZE: ClassVar[int] = 15
    OBSERVATION_NAMES: ClassVar[tuple[str, ...]] = (
        "speed", "yaw_rate", "pitch_rate", "roll_rate",
        "ray_forward", "ray_left", "ray_right", "ray_left_45", "ray_right_45",
        "ray_forward_up", "ray_forward_down", "ray_ground",
        "gravity_x", "gravity_y", "gravity_z",
    )  # fmt: skip
    ACTION_NAMES: ClassVar[tuple[str, ...]] = ("steer", "throttle", "brake")
    ACTION_LOW: ClassVar[Floats32] = np.array([-1.0, 0.0, 0.0], np.float32)
    ACTION_HIGH: ClassVar[Floats32] = np.array([1.0, 1.0, 1.0], np.float32)
    REWARD_PARTS: ClassVar[tuple[str, ...]] = ("distance", "survival", "speed", "jerk", "near_collision", "crash")

    def __init__(
        self,
        n_agents: int,
        *,
        seed: int,
        observation_scale: float = 1.0,
        observation_shift: float = 0.0,
        tracks: int = 6,
        track_seed: int = 0,
        track: int | None = None,
        time_limit: int = TIME_LIMIT,
    ) -> None:
        if n_agents < 1:
            raise ValueError(f"a world needs at least one agent, not {n_agents}")
        if track is not None and not 0 <= track < tracks:
            raise ValueError(f"track {track} is none of 0 to {tracks - 1}")
        self.n_agents, self.time_limit = n_agents, time_limit
        self.tracks = Tracks(tracks, seed=track_seed)
        self.cars = Cars.standing(n_agents)
        self.track = np.zeros(n_agents, np.int64)  #: each agent's
        self.steps = np.zeros(n_agents, np.int64)  #: since the episode's start
        self._only_track = track
        self._scale, self._shift = np.float32(observation_scale), np.float32(observation_shift)
        self._rng = np.random.default_rng(seed)
        self._identity = f"racing/1 agents={n_agents} tracks={tracks} track_seed={track_seed}"
        self.reset()

    def reset(self) -> Floats32:
        """Start every agent anew; observations [n, 15]."""
        self._start(np.arange(self.n_agents))
        return self.observe()

    def step(self, action: ArrayLike) -> Step:
        """Drive every agent for 0.1 s. `action` [n, 3] is clipped to its bounds; raises ValueError where not finite."""
        wanted = np.asarray(action, np.float64)
        if wanted.shape != (self.n_agents, 3) or not np.isfinite(wanted).all():
            raise ValueError(f"action must be finite and of shape {(self.n_agents, 3)}, got shape {wanted.shape}")
        c = self.cars
        along, across = c.along, c.across
        came = drive(c, self.tracks.at(self.track, c.arc), np.clip(wanted, self.ACTION_LOW, self.ACTION_HIGH))
        self.steps += 1
        gap = HALF_WIDTH - HALF_CAR - np.abs(c.offset)
        terminated = gap < 0.0
        truncated = (self.steps >= self.time_limit) & ~terminated
        jerk = np.hypot(c.along - along, c.across - across) / GRAVITY
        parts = np.empty((len(self.REWARD_PARTS), self.n_agents), np.float32)
        parts[0] = 0.7 * came / (REWARD_SPEED * STEP_S)
        parts[1] = 0.05 * ~terminated
        parts[2] = 0.25 * c.speed / REWARD_SPEED
        parts[3] = -0.05 * np.minimum(jerk, 1.0)
        parts[4] = -0.1 * np.minimum(np.maximum(1.0 - gap / _NEAR_M, 0.0), 1.0)
        parts[5] = -1.0 * terminated
        reward, reward_parts = parts.sum(axis=0), dict(zip(self.REWARD_PARTS, parts, strict=True))

        ended = np.flatnonzero(terminated | truncated)
        last, last_track = c.take(ended), self.track[ended]
        self._start(ended)
        now = Cars(*(np.concatenate([a, b]) for a, b in zip(c.columns(), last.columns(), strict=True)))
        seen = self._observe(now, np.concatenate([self.track, last_track]))  # one call for both: half the time
        observation = seen[: self.n_agents]
        next_observation = observation
        if len(ended):
            next_observation = observation.copy()
            next_observation[ended] = seen[self.n_agents :]
        return Step(next_observation, observation, reward, terminated, truncated, reward_parts)

    def observe(self) -> Floats32:
        """What the agents see now, [n, 15], in the order of OBSERVATION_NAMES and roughly in [-1, 1]."""
        return self._observe(self.cars, self.track)

    def _observe(self, c: Cars, track: Ints) -> Floats32:
        """What cars [k] on tracks [k] see, [k, 15]."""
        road = self.tracks.at(track, c.arc)
        flat = self.tracks.cast(track, c.arc, c.offset, c.heading)
        uphill = road.slope * np.cos(c.heading) + c.pitch  # slopes are so small that they are angles too
        sideways = c.roll - road.slope * np.sin(c.heading)  # right side down; facing left of uphill raises it
        seen = np.empty((self.OBSERVATION_SIZE, len(track)), np.float32)
        seen[0] = c.speed / SPEED_SCALE
        seen[1] = c.yaw_rate
        seen[2] = c.pitch_rate * 4.0
        seen[3] = c.roll_rate * 4.0
        seen[4:9] = flat
        seen[9:12] = _upright_rays(road, flat[0], c)
        seen[4:12] = np.minimum(seen[4:12] / _RAY_SCALES, 1.0)
        seen[12] = -np.sin(uphill)
        seen[13] = -np.cos(uphill) * np.sin(sideways)
        seen[14] = -np.cos(uphill) * np.cos(sideways)
        seen *= self._scale
        seen += self._shift
        return np.ascontiguousarray(seen.T)

    def save_state(self) -> bytes:
        """The state of all agents and of the random numbers, not the settings; no pickle."""
        columns = dict(zip(Cars.__slots__, self.cars.columns(), strict=True))
        about = {"world": self._identity, "rng": self._rng.bit_generator.state}
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, about=text, track=self.track, steps=self.steps, **columns)
        return out.getvalue()

    def load_state(self, state: bytes) -> None:
        """Go back to a saved state; with the same settings, what follows is bit-identical.

        Raises ValueError where the state is torn, or another world's; the agents then stay where they are.
        """
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as saved:
                columns = {name: saved[name] for name in ("track", "steps", *Cars.__slots__)}
                about = json.loads(saved["about"].tobytes())
            identity, rng = about["world"], np.random.default_rng()
            rng.bit_generator.state = about["rng"]
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"this is no state of a racing world ({type(error).__name__}: {error})") from None
        if identity != self._identity or any(column.shape != (self.n_agents,) for column in columns.values()):
            raise ValueError(f"this state is of the world '{identity}', not of '{self._identity}'")
        self.track, self.steps = columns.pop("track"), columns.pop("steps")
        self.cars, self._rng = Cars(**columns), rng

    def _start(self, who: NDArray[np.intp]) -> None:
        """Put the agents `who` [k] at random places, rolling."""
        k = len(who)
        track = self._rng.integers(0, self.tracks.count, k)
        self.track[who] = track if self._only_track is None else self._only_track
        self.steps[who] = 0
        self.cars.place(
            who,
            arc=self._rng.uniform(0.0, LENGTH, k),
            offset=self._rng.uniform(-2.0, 2.0, k),
            heading=self._rng.uniform(-0.15, 0.15, k),
            speed=self._rng.uniform(2.0, 10.0, k),
        )


def _upright_rays(road: Place, wall: Floats32, c: Cars) -> Floats32:
    """Distances [3, n], m: forward up, forward down, ground. `wall` [n] is the forward ray's.

    The road ahead is taken as a parabola, by its slope and bend at the car: a ray that leaves at angle e over the
    road from height h meets it where h + t sin(e) = bend/2 (t cos(e))^2.
    """
    bend = road.bend * np.cos(c.heading) ** 2
    height = _RIDE_HEIGHT - np.clip(_SPRING * bend * c.speed**2, -0.2, 0.2)
    angle = c.pitch + _TILT
    sin, cos = np.sin(angle), np.cos(angle)
    inside = sin**2 + 2.0 * height * bend * cos**2
    below = np.sqrt(np.maximum(inside, 0.0)) - sin
    meets_road = np.where((inside >= 0.0) & (below > 1e-6), 2.0 * height / np.maximum(below, 1e-6), RAY_RANGE)
    wall_ahead = (wall < RAY_RANGE) & (height * cos + wall * sin < _WALL_HEIGHT * cos)
    meets_wall = np.where(wall_ahead, wall / cos, RAY_RANGE)
    rays = np.empty((3, len(wall)), np.float32)
    np.minimum(np.minimum(meets_road, meets_wall), RAY_RANGE, out=rays[:2], casting="same_kind")
    rays[2] = height / (np.cos(c.pitch) * np.cos(c.roll))
    return rays
