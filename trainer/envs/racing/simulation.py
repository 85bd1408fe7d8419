"""The racing game: many agents on closed spline tracks that step together, in numpy.

Fifteen observations, three actions and the reward of the racing game; needs numpy alone. The geometry is in `track`,
the driving in `car`, the image in `render`. Agents do not see or touch each other.

    simulation = RacingSimulation(16, seed=0)
    observation = simulation.reset()
    step = simulation.step(action)        # action [16, 3]
    observation = step.observation        # see `trainer.envs.vec_env.Step`
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
from trainer.envs.racing.render import render_frame
from trainer.envs.racing.track import HALF_WIDTH, LENGTH, RAY_RANGE, Centreline, Int64, Tracks
from trainer.envs.vec_env import Float32, Step

REWARD_SPEED = 16.0  #: m/s that earns about 1 per step
TIME_LIMIT = 5000  #: steps of an episode; over ten laps: rare, because it looks like a crash in version 1 rollouts

_RIDE_HEIGHT = 0.5  #: m from the road to the start of the rays
_WALL_HEIGHT = 2.5  #: m
_TILT = np.deg2rad([[10.0], [-10.0]])  #: rad between the body and the forward up and down rays
_SPRING = 0.02  #: m per m/s^2 that the body sinks in dips and rises on crests
_NEAR_M = 2.0  #: m between car and wall at which near_collision begins
_CURVATURE_AT_M = (0.0, 10.0, 20.0, 40.0, 80.0)
#: m of each ray that are observed as 1
_RAY_SCALES = np.array([50.0, 20.0, 20.0, 35.0, 35.0, 50.0, 6.0, 1.0], np.float32)[:, None]


class RacingSimulation:
    """n agents, each on one of several tracks. An episode starts at a random place of a random track.

    `track_seed` and `tracks` determine the tracks, `seed` the starts of the episodes; with `track` all agents use that
    one. `time_limit` is in steps of 0.1 s. `observation_scale` and `observation_shift` change the units of the
    observations (x * scale + shift), for benchmarks.
    """

    OBSERVATION_SIZE: ClassVar[int] = 15
    OBSERVATION_NAMES: ClassVar[tuple[str, ...]] = (
        "speed", "yaw_rate", "pitch_rate", "roll_rate",
        "ray_forward", "ray_left", "ray_right", "ray_left_45", "ray_right_45",
        "ray_forward_up", "ray_forward_down", "ray_ground",
        "gravity_x", "gravity_y", "gravity_z",
    )  # fmt: skip
    ACTION_NAMES: ClassVar[tuple[str, ...]] = ("steer", "throttle", "brake")
    ACTION_LOW: ClassVar[Float32] = np.array([-1.0, 0.0, 0.0], np.float32)
    ACTION_HIGH: ClassVar[Float32] = np.array([1.0, 1.0, 1.0], np.float32)
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
            raise ValueError(f"n_agents is {n_agents}, but must be at least 1")
        if track is not None and not 0 <= track < tracks:
            raise ValueError(f"track is {track}, but must be from 0 to {tracks - 1}")
        self.n_agents, self.time_limit = n_agents, time_limit
        self.tracks = Tracks(tracks, seed=track_seed)
        self.cars = Cars.at_rest(n_agents)
        self.track = np.zeros(n_agents, np.int64)  #: of each agent
        self.steps = np.zeros(n_agents, np.int64)  #: since the start of the episode
        self._only_track = track
        self._scale, self._shift = np.float32(observation_scale), np.float32(observation_shift)
        self._rng = np.random.default_rng(seed)
        self._identity = f"racing/1 agents={n_agents} tracks={tracks} track_seed={track_seed}"
        self.reset()

    def reset(self, seed: int | None = None) -> Float32:
        """Start new episodes and return the observations [n, 15]. With `seed`, restart the random numbers as well."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._start_episodes(np.arange(self.n_agents))
        return self.observe()

    def step(self, action: ArrayLike) -> Step:
        """Drive for 0.1 s. `action` [n, 3] is clipped to its bounds. Raises ValueError if it is not finite."""
        wanted = np.asarray(action, np.float64)
        if wanted.shape != (self.n_agents, 3) or not np.isfinite(wanted).all():
            raise ValueError(f"action must be finite and of shape {(self.n_agents, 3)}, but has shape {wanted.shape}")
        c = self.cars
        along, across = c.along, c.across
        distance = drive(c, self.tracks.at(self.track, c.arc), np.clip(wanted, self.ACTION_LOW, self.ACTION_HIGH))
        self.steps += 1
        gap = HALF_WIDTH - HALF_CAR - np.abs(c.offset)
        terminated = gap < 0.0
        truncated = (self.steps >= self.time_limit) & ~terminated
        jerk = np.hypot(c.along - along, c.across - across) / GRAVITY
        parts = np.empty((len(self.REWARD_PARTS), self.n_agents), np.float32)
        parts[0] = 0.7 * distance / (REWARD_SPEED * STEP_S)
        parts[1] = 0.05 * ~terminated
        parts[2] = 0.25 * c.speed / REWARD_SPEED
        parts[3] = -0.05 * np.minimum(jerk, 1.0)
        parts[4] = -0.1 * np.minimum(np.maximum(1.0 - gap / _NEAR_M, 0.0), 1.0)
        parts[5] = -1.0 * terminated
        reward, reward_parts = parts.sum(axis=0), dict(zip(self.REWARD_PARTS, parts, strict=True))

        ended = np.flatnonzero(terminated | truncated)
        last, last_track = c.select(ended), self.track[ended]
        self._start_episodes(ended)
        now = Cars(*(np.concatenate([a, b]) for a, b in zip(c.columns(), last.columns(), strict=True)))
        both = self._observe(now, np.concatenate([self.track, last_track]))  # one call for both takes half the time
        observation = both[: self.n_agents]
        next_observation = observation
        if len(ended):
            next_observation = observation.copy()
            next_observation[ended] = both[self.n_agents :]
        return Step(next_observation, observation, reward, terminated, truncated, reward_parts)

    def observe(self) -> Float32:
        """Return the observations [n, 15], in the order of OBSERVATION_NAMES and roughly in [-1, 1]."""
        return self._observe(self.cars, self.track)

    def critic_observe(self) -> Float32:
        """Return what only critics see [n, 6]: the place across the road, and the curvature from here to 80 m ahead."""
        ahead = [self.tracks.at(self.track, self.cars.arc + metres).curvature * 10.0 for metres in _CURVATURE_AT_M]
        return np.stack([self.cars.offset / HALF_WIDTH, *ahead], axis=1).astype(np.float32)

    def _observe(self, c: Cars, track: Int64) -> Float32:
        """Return the observations [k, 15] of cars [k] on tracks [k]."""
        centreline = self.tracks.at(track, c.arc)
        flat = self.tracks.cast(track, c.arc, c.offset, c.heading)
        uphill = centreline.slope * np.cos(c.heading) + c.pitch  # slopes are small enough to be used as angles
        sideways = c.roll - centreline.slope * np.sin(c.heading)  # right side down
        columns = np.empty((self.OBSERVATION_SIZE, len(track)), np.float32)
        columns[0] = c.speed / SPEED_SCALE
        columns[1] = c.yaw_rate
        columns[2] = c.pitch_rate * 4.0
        columns[3] = c.roll_rate * 4.0
        columns[4:9] = flat
        columns[9:12] = _upright_rays(centreline, flat[0], c)
        columns[4:12] = np.minimum(columns[4:12] / _RAY_SCALES, 1.0)
        columns[12] = -np.sin(uphill)
        columns[13] = -np.cos(uphill) * np.sin(sideways)
        columns[14] = -np.cos(uphill) * np.cos(sideways)
        columns *= self._scale
        columns += self._shift
        return np.ascontiguousarray(columns.T)

    def render(self, agent: int = 0, size: tuple[int, int] = (320, 240)) -> NDArray[np.uint8]:
        """Return an RGB image [height, width, 3] from above, around one agent; `size` is (width, height)."""
        return render_frame(self.tracks, self.track, self.cars, agent, size)

    def save_state(self) -> bytes:
        """Return the state of all agents and of the random numbers, without the settings, as an npz file."""
        columns = dict(zip(Cars.__slots__, self.cars.columns(), strict=True))
        about = {"world": self._identity, "rng": self._rng.bit_generator.state}
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, about=text, track=self.track, steps=self.steps, **columns)
        return out.getvalue()

    def load_state(self, state: bytes) -> None:
        """Restore a saved state; with the same settings, everything that follows is identical to the bit.

        Raises ValueError if the state is damaged or of a simulation with other settings; then nothing is changed.
        """
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as saved:
                columns = {name: saved[name] for name in ("track", "steps", *Cars.__slots__)}
                about = json.loads(saved["about"].tobytes())
            identity, rng = about["world"], np.random.default_rng()
            rng.bit_generator.state = about["rng"]
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"the bytes are not a saved state of the racing game ({reason})") from None
        if identity != self._identity or any(column.shape != (self.n_agents,) for column in columns.values()):
            raise ValueError(f"the saved state is of '{identity}', not of '{self._identity}'")
        self.track, self.steps = columns.pop("track"), columns.pop("steps")
        self.cars, self._rng = Cars(**columns), rng

    def _start_episodes(self, agents: NDArray[np.intp]) -> None:
        """Put these agents [k] at random places, driving."""
        k = len(agents)
        track = self._rng.integers(0, self.tracks.count, k)
        self.track[agents] = track if self._only_track is None else self._only_track
        self.steps[agents] = 0
        self.cars.place(
            agents,
            arc=self._rng.uniform(0.0, LENGTH, k),
            offset=self._rng.uniform(-2.0, 2.0, k),
            heading=self._rng.uniform(-0.15, 0.15, k),
            speed=self._rng.uniform(2.0, 10.0, k),
        )


def _upright_rays(centreline: Centreline, wall: Float32, c: Cars) -> Float32:
    """Return the distances [3, n], m: forward up, forward down, ground. `wall` [n] is that of the forward ray.

    The road ahead is approximated by a parabola with the slope and bend at the car. A ray from height h at angle e to
    the road meets it at the distance t with h + t sin(e) = bend/2 (t cos(e))^2.
    """
    bend = centreline.bend * np.cos(c.heading) ** 2
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
