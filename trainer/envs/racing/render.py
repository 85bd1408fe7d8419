"""An image of the racing game from above: one agent's car in the lower middle, driving up. numpy only.

Every pixel is a point on the ground. Its distance from the nearest centreline sample determines its colour. The nearest
sample is searched for blocks of pixels, the distance is computed for each pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.envs.racing.car import HALF_CAR, SPEED_SCALE, Cars
from trainer.envs.racing.track import HALF_WIDTH, LENGTH, SAMPLES, SPACING, Int64, Tracks
from trainer.envs.vec_env import Float32

Frame = NDArray[np.uint8]

VIEW_M = 70.0  #: m from the lower edge of the image to the upper
_BEHIND = 0.25  #: part of the height that is behind the car
_BLOCK = 4  #: pixels, in both directions, that share a nearest centreline sample
_HALF_LENGTH = 2.2  #: m, from the car's middle to its front
_WALL_M = 0.8  #: m, thickness of a wall in the image

_GRASS, _ROAD, _PAINT, _CAR = (58, 94, 52), (74, 76, 82), (190, 190, 186), (246, 196, 40)
_WALL = ((204, 60, 52), (232, 232, 228))  #: in turn, 4 m each
_BAR = (120, 214, 120)


def render_frame(tracks: Tracks, track: Int64, cars: Cars, agent: int, size: tuple[int, int]) -> Frame:
    """Return an RGB image [height, width, 3] around one agent. `track` [n] is each car's; `size` is (width, height).

    Raises ValueError if the agent does not exist or the size is not positive.
    """
    width, height = size
    if width < 1 or height < 1 or not 0 <= agent < len(track):
        raise ValueError(f"no {width} x {height} image of agent {agent}; there are {len(track)} agents")
    pixel = VIEW_M / height  # m
    ahead = ((height * (1.0 - _BEHIND) - np.arange(height) - 0.5) * pixel).astype(np.float32)[:, None]
    left = ((width / 2.0 - np.arange(width) - 0.5) * pixel).astype(np.float32)
    arc, offset = _track_coordinates(tracks, track[agent : agent + 1], cars.select(np.array([agent])), ahead, left)
    beside = np.abs(offset)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = _GRASS
    image[beside < HALF_WIDTH + _WALL_M] = _WALL[0]
    image[(beside < HALF_WIDTH + _WALL_M) & (arc % 8.0 < 4.0)] = _WALL[1]
    image[beside < HALF_WIDTH] = _ROAD
    image[(beside < max(0.15, pixel / 2.0)) & (arc % 6.0 < 3.0)] = _PAINT
    image[(beside < HALF_WIDTH) & ((arc + 1.0) % LENGTH < 2.0)] = _PAINT  # the start line
    image[(np.abs(ahead) < _HALF_LENGTH) & (np.abs(left) < HALF_CAR)] = _CAR
    speed = float(cars.speed[agent]) / SPEED_SCALE
    image[height - max(2, height // 60) :, : round(width * min(speed, 1.0))] = _BAR
    return image


def _track_coordinates(
    tracks: Tracks, track: Int64, car: Cars, ahead: Float32, left: Float32
) -> tuple[Float32, Float32]:
    """Return arc and offset [h, w], m, of points, given as metres `ahead` [h, 1] and `left` [w] of the only car."""
    rows = slice(int(track[0]) * SAMPLES, int(track[0] + 1) * SAMPLES)
    heading = tracks.at(track, car.arc).heading[0] + car.heading[0]
    x, y = (tracks.x[rows], tracks.y[rows]) - tracks.world_xy(track, car.arc, car.offset).T
    line_ahead = (x * np.cos(heading) + y * np.sin(heading)).astype(np.float32)
    line_left = (y * np.cos(heading) - x * np.sin(heading)).astype(np.float32)
    direction = (tracks.heading[rows] - heading).astype(np.float32)

    middle = slice(_BLOCK // 2, None, _BLOCK)
    block_ahead, block_left = (ahead[middle], left[middle]) if min(len(ahead), len(left)) > _BLOCK else (ahead, left)
    distance = (block_ahead[..., None] - line_ahead) ** 2 + (block_left[:, None] - line_left) ** 2
    block = distance.argmin(axis=2)
    of_row = np.arange(len(ahead)) * len(block) // len(ahead)
    of_column = np.arange(len(left)) * block.shape[1] // len(left)
    sample = block[of_row[:, None], of_column]
    cos, sin = np.cos(direction)[sample], np.sin(direction)[sample]
    to_ahead, to_left = ahead - line_ahead[sample], left - line_left[sample]
    along: Float32 = (sample * SPACING + to_ahead * cos + to_left * sin).astype(np.float32)
    offset: Float32 = to_left * cos - to_ahead * sin
    return along, offset
