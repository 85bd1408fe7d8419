"""What a step was worth to each car, part by part, for all arenas at once. Parts are in units of about 1; weights come
from the config."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.envs.rocket.simulation import (
    BALL_POS,
    BALL_SPEED,
    BALL_VEL,
    BOOST,
    CAR_SPEED,
    DEMOS,
    GOAL_Y,
    ON_GROUND,
    POS,
    TOUCHED,
    VEL,
    ArenaState,
    Float32,
)

REWARD_PARTS = (
    "goal", "concede", "touch", "velocity_player_to_ball", "velocity_ball_to_goal", "boost", "demo", "align", "aerial",
)  # fmt: skip
_THEIR_GOAL = np.array([0.0, GOAL_Y, 320.0], np.float32)
_OUR_GOAL = np.array([0.0, -GOAL_Y, 320.0], np.float32)
_CEILING = 2044.0  #: uu


def reward_parts(
    seen: ArenaState, blue: int, scored: npt.NDArray[np.int64], demos_before: Float32
) -> dict[str, Float32]:
    """Return each part [G, C], unweighted. `scored` [G] is 1 where blue scored, -1 where orange did, else 0."""
    games, cars = seen.flip.shape
    car, ball = seen.facing(blue)
    won = scored[:, None] * np.where(np.arange(cars) < blue, 1, -1)
    to_ball = _unit(ball[..., BALL_POS] - car[..., POS])
    attack, defence = _unit(_THEIR_GOAL - car[..., POS]), _unit(car[..., POS] - _OUR_GOAL)
    height = np.minimum(np.maximum(car[..., POS][..., 2] / _CEILING, 0.0), 1.0)
    parts = np.empty((len(REWARD_PARTS), games, cars), np.float32)
    parts[0] = won > 0
    parts[1] = won < 0
    parts[2] = car[..., TOUCHED]
    parts[3] = _dot(car[..., VEL], to_ball) / CAR_SPEED
    parts[4] = _dot(ball[..., BALL_VEL], _unit(_THEIR_GOAL - ball[..., BALL_POS])) / BALL_SPEED
    parts[5] = np.sqrt(car[..., BOOST] * 0.01)
    parts[6] = car[..., DEMOS] - demos_before
    parts[7] = 0.5 * (_dot(to_ball, attack) + _dot(to_ball, defence))
    parts[8] = np.where(car[..., ON_GROUND] > 0, 0.0, height)
    return dict(zip(REWARD_PARTS, parts, strict=True))


def _dot(a: Float32, b: Float32) -> Float32:
    return np.asarray((a * b).sum(axis=-1), np.float32)


def _unit(vector: Float32) -> Float32:
    length = np.sqrt(_dot(vector, vector))[..., None]
    return np.asarray(vector / np.maximum(length, np.float32(1e-6)), np.float32)
