"""The reward of each car for a step, part by part, for all arenas at once, and the weights of the parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.settings.fields import SettingsGroup
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
)
from trainer.envs.vec_env import Float32


class RewardWeights(SettingsGroup):
    """`[rewards]`: the weight of each part; with 0 a part is logged, but not rewarded."""

    goal: float = 10.0
    """For each car of the team that scores."""
    concede: float = -10.0
    """For each car of the team that is scored against."""
    touch: float = 1.0
    """For each step in which the car touches the ball."""
    velocity_player_to_ball: float = 0.1
    """Speed toward the ball, -1 to 1 in units of the car's top speed."""
    velocity_ball_to_goal: float = 0.2
    """The ball's speed toward the other goal, -1 to 1 in units of its top speed."""
    boost: float = 0.002
    """Square root of the boost that the car has, 0 to 1."""
    demo: float = 0.5
    """For each demolition."""
    align: float = 0.005
    """How well the ball is between the car and the other goal, -1 to 1."""
    aerial: float = 0.002
    """Wheels off the ground, by height, 0 to 1."""


REWARD_PARTS = tuple(RewardWeights.model_fields)
_THEIR_GOAL = np.array([0.0, GOAL_Y, 320.0], np.float32)
_OUR_GOAL = np.array([0.0, -GOAL_Y, 320.0], np.float32)
_CEILING = 2044.0  #: uu


def reward_parts(
    state: ArenaState, blue: int, scored: npt.NDArray[np.int64], demos_before: Float32
) -> dict[str, Float32]:
    """Return each part [G, C], not weighted. `scored` [G] is 1 if blue scored, -1 if orange scored, else 0."""
    _, cars = state.flip.shape
    car, ball = state.from_own_side(blue)
    won = scored[:, None] * np.where(np.arange(cars) < blue, 1, -1)
    to_ball = _unit(ball[..., BALL_POS] - car[..., POS])
    attack, defence = _unit(_THEIR_GOAL - car[..., POS]), _unit(car[..., POS] - _OUR_GOAL)
    height = np.minimum(np.maximum(car[..., POS][..., 2] / _CEILING, 0.0), 1.0)
    parts = {
        "goal": won > 0,
        "concede": won < 0,
        "touch": car[..., TOUCHED],
        "velocity_player_to_ball": _dot(car[..., VEL], to_ball) / CAR_SPEED,
        "velocity_ball_to_goal": _dot(ball[..., BALL_VEL], _unit(_THEIR_GOAL - ball[..., BALL_POS])) / BALL_SPEED,
        "boost": np.sqrt(car[..., BOOST] * 0.01),
        "demo": car[..., DEMOS] - demos_before,
        "align": 0.5 * (_dot(to_ball, attack) + _dot(to_ball, defence)),
        "aerial": np.where(car[..., ON_GROUND] > 0, 0.0, height),
    }
    return {name: np.asarray(part, np.float32) for name, part in parts.items()}


def _dot(a: Float32, b: Float32) -> Float32:
    return np.asarray((a * b).sum(axis=-1), np.float32)


def _unit(vector: Float32) -> Float32:
    length = np.sqrt(_dot(vector, vector))[..., None]
    return np.asarray(vector / np.maximum(length, np.float32(1e-6)), np.float32)
