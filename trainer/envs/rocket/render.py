"""An image of one arena from above: blue defends the lower goal. numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.envs.rocket.simulation import BALL_POS, FORWARD, GOAL_Y, POS, ArenaState

Frame = npt.NDArray[np.uint8]

_SIDE, _GOAL_HALF, _DEPTH = 4096.0, 893.0, 880.0  #: uu
_GRASS, _LINE, _OUTSIDE = (58, 94, 52), (150, 175, 145), (24, 26, 30)
_TEAMS = ((64, 132, 255), (255, 140, 40))
_BALL = (240, 240, 240)
_CEILING = 2044.0  #: uu


def render_frame(state: ArenaState, arena: int, blue: int, *, width: int = 360) -> Frame:
    """Return an RGB image [height, width, 3] with an even height, as video needs. Higher objects are drawn larger."""
    reach_y = GOAL_Y + _DEPTH
    height = 2 * round(width * reach_y / _SIDE / 2)
    y = np.linspace(reach_y, -reach_y, height, dtype=np.float32)[:, None]
    x = np.linspace(-_SIDE, _SIDE, width, dtype=np.float32)[None, :]
    pixel = 2 * _SIDE / width
    image = np.empty((height, width, 3), np.uint8)
    image[:] = _OUTSIDE
    inside = (np.abs(y) <= GOAL_Y) & (np.abs(x) + np.abs(y) <= _SIDE + GOAL_Y - 1152.0)
    image[inside] = _GRASS
    image[(np.abs(y) < pixel) & inside] = _LINE
    image[(np.abs(np.hypot(x, y) - 1000.0) < pixel) & inside] = _LINE
    goal = (np.abs(x) < _GOAL_HALF) & (np.abs(y) > GOAL_Y)
    image[goal & (y < 0)] = _TEAMS[0]
    image[goal & (y > 0)] = _TEAMS[1]
    for c, car in enumerate(state.car[arena, :, 0]):
        position, forward = car[POS], car[FORWARD]
        size = 110.0 * (1.0 + position[2] / _CEILING)
        along = (x - position[0]) * forward[0] + (y - position[1]) * forward[1]
        across = (y - position[1]) * forward[0] - (x - position[0]) * forward[1]
        body = (np.abs(along) < size) & (np.abs(across) < 0.6 * size)
        image[body] = _TEAMS[int(c >= blue)]
        image[body & (along > 0.4 * size)] = _BALL
    ball = state.ball[arena, 0, BALL_POS]
    image[np.hypot(x - ball[0], y - ball[1]) < 130.0 * (1.0 + ball[2] / _CEILING)] = _BALL
    return image
