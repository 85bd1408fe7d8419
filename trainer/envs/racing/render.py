"""A picture of the racing world from above: one agent's car in the lower middle, driving up. numpy only.

Every pixel is a point on the ground, and how far it lies beside the nearest stretch of centreline says its colour.
Which stretch that is, is found for blocks of pixels; how far, for each pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.envs.racing.car import HALF_CAR, SPEED_SCALE
from trainer.envs.racing.simulation import RacingSimulation
from trainer.envs.racing.track import HALF_WIDTH, LENGTH, SAMPLES, SPACING, Floats32

Frame = NDArray[np.uint8]

VIEW_M = 70.0  #: m from the picture's lower edge to its upper
_BEHIND = 0.25  #: part of the height that lies behind the car
_BLOCK = 4  #: pixels, either way, that share a nearest centreline sample
_HALF_LENGTH = 2.2  #: m, of the car
_WALL_M = 0.8  #: m, drawn thickness of a wall

_GRASS, _ROAD, _PAINT, _CAR = (58, 94, 52), (74, 76, 82), (190, 190, 186), (246, 196, 40)
_WALL = ((204, 60, 52), (232, 232, 228))  #: in turn, every other 4 m
_BAR = (120, 214, 120)


def frame(world: RacingSimulation, agent: int = 0, size: tuple[int, int] = (320, 240)) -> Frame:
    """Return an RGB picture [height, width, 3] around one agent; `size` is (width, height), pixels."""
    width, height = size
    if width < 1 or height < 1 or not 0 <= agent < world.n_agents:
        raise ValueError(f"no {width} x {height} picture of agent {agent}; there are {world.n_agents} agents")
    pixel = VIEW_M / height  # m
    ahead = ((height * (1.0 - _BEHIND) - np.arange(height) - 0.5) * pixel).astype(np.float32)[:, None]
    left = ((width / 2.0 - np.arange(width) - 0.5) * pixel).astype(np.float32)
    arc, offset = _on_track(world, agent, ahead, left)
    beside = np.abs(offset)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = _GRASS
    picture[beside < HALF_WIDTH + _WALL_M] = _WALL[0]
    picture[(beside < HALF_WIDTH + _WALL_M) & (arc % 8.0 < 4.0)] = _WALL[1]
    picture[beside < HALF_WIDTH] = _ROAD
    picture[(beside < max(0.15, pixel / 2.0)) & (arc % 6.0 < 3.0)] = _PAINT
    picture[(beside < HALF_WIDTH) & ((arc + 1.0) % LENGTH < 2.0)] = _PAINT  # the start line
    picture[(np.abs(ahead) < _HALF_LENGTH) & (np.abs(left) < HALF_CAR)] = _CAR
    speed = float(world.cars.speed[agent]) / SPEED_SCALE
    picture[height - max(2, height // 60) :, : round(width * min(speed, 1.0))] = _BAR
    return picture


def _on_track(world: RacingSimulation, agent: int, ahead: Floats32, left: Floats32) -> tuple[Floats32, Floats32]:
    """Where the points `ahead` [h, 1] and `left` [w] of the car, m, lie on its track: arc and offset [h, w], m."""
    one = slice(agent, agent + 1)
    track, arc = world.track[one], world.cars.arc[one]
    rows = slice(int(track[0]) * SAMPLES, int(track[0] + 1) * SAMPLES)
    heading = world.tracks.at(track, arc).heading[0] + world.cars.heading[agent]
    x, y = (world.tracks.x[rows], world.tracks.y[rows]) - world.tracks.world_xy(track, arc, world.cars.offset[one]).T
    line_ahead = (x * np.cos(heading) + y * np.sin(heading)).astype(np.float32)
    line_left = (y * np.cos(heading) - x * np.sin(heading)).astype(np.float32)
    direction = (world.tracks.heading[rows] - heading).astype(np.float32)

    middle = slice(_BLOCK // 2, None, _BLOCK)
    block_ahead, block_left = (ahead[middle], left[middle]) if min(len(ahead), len(left)) > _BLOCK else (ahead, left)
    distance = (block_ahead[..., None] - line_ahead) ** 2 + (block_left[:, None] - line_left) ** 2
    block = distance.argmin(axis=2)
    of_row = np.arange(len(ahead)) * len(block) // len(ahead)
    of_column = np.arange(len(left)) * block.shape[1] // len(left)
    sample = block[of_row[:, None], of_column]
    cos, sin = np.cos(direction)[sample], np.sin(direction)[sample]
    to_ahead, to_left = ahead - line_ahead[sample], left - line_left[sample]
    along: Floats32 = (sample * SPACING + to_ahead * cos + to_left * sin).astype(np.float32)
    offset: Floats32 = to_left * cos - to_ahead * sin
    return along, offset
