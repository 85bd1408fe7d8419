"""The observation of a car: 180 numbers, for all cars of all arenas at once.

For orange the field is rotated by 180 degrees, so that all cars attack +y.

0 ball: position, velocity, spin (9)      9 boost pads (34)         43 the last action (8)
51 own car (20)      71 ball and goals in the car's own frame (13)      84 speeds (2)
86, 117, 148 three other cars (31 each): a teammate, two opponents; zeros if there are fewer
179 time since the last touch
"""

from __future__ import annotations

from functools import cache

import numpy as np

from trainer.envs.rocket.simulation import (
    BALL_POS,
    BALL_SPEED,
    BALL_SPIN,
    BALL_VEL,
    BOOST,
    CAR_SPEED,
    DEMOED,
    FORWARD,
    FRAME,
    GOAL_Y,
    ON_GROUND,
    POS,
    SPIN,
    UP,
    VEL,
    ArenaState,
    side_of,
)
from trainer.envs.vec_env import Float32

OBSERVATION_SIZE = 180
_OTHER = 31
_MATES, _OPPONENTS = 1, 2
_FIELD, _SPIN = np.float32(1 / 4096), np.float32(1 / 5.5)
_FAST, _FASTEST = np.float32(1 / CAR_SPEED), np.float32(1 / BALL_SPEED)
_THEIR_GOAL = np.array([0.0, GOAL_Y, 320.0], np.float32)
_OUR_GOAL = np.array([0.0, -GOAL_Y, 320.0], np.float32)


def observe(state: ArenaState, blue: int, last_action: Float32, since_touch: Float32) -> Float32:
    """Return [G, C, 180]. `last_action` is [G, C, 8]; `since_touch` [G] is a part of the longest time, 0 to 1."""
    games, cars = state.flip.shape
    out = np.zeros((games, cars, OBSERVATION_SIZE), np.float32)
    own, ball = state.from_own_side(blue)
    _fill_own(out.reshape(-1, OBSERVATION_SIZE), own.reshape(-1, 36), ball.reshape(-1, 25), state.flip.reshape(-1))
    out[:, :, 9:43] = state.pads[:, side_of(cars, blue)]
    for slot, (me, other) in enumerate(_pairs(cars, blue)):
        if me:
            rows = np.empty((games, len(me), _OTHER), np.float32)
            others = state.car[:, other, side_of(cars, blue)[me]]
            _fill_other(rows, own[:, me], others, ball[:, me], state.flip[:, other])
            out[:, me, 86 + slot * _OTHER : 86 + (slot + 1) * _OTHER] = rows
    out[:, :, 43:51] = last_action
    out[:, :, 179] = since_touch[:, None]
    return out


@cache
def _pairs(cars: int, blue: int) -> list[tuple[list[int], list[int]]]:
    """Return for each slot of other cars: the observing cars, and the car that each of them observes there."""
    slots: list[tuple[list[int], list[int]]] = [([], []) for _ in range(_MATES + _OPPONENTS)]
    for me in range(cars):
        team = range(blue) if me < blue else range(blue, cars)
        mates = [c for c in team if c != me][:_MATES]
        opponents = [c for c in range(cars) if c not in team][:_OPPONENTS]
        for slot, other in [*enumerate(mates), *enumerate(opponents, start=_MATES)]:
            slots[slot][0].append(me)
            slots[slot][1].append(other)
    return slots


def _fill_own(row: Float32, car: Float32, ball: Float32, flip: Float32) -> None:
    row[:, 0:3] = ball[:, BALL_POS] * _FIELD
    row[:, 3:6] = ball[:, BALL_VEL] * _FAST
    row[:, 6:9] = ball[:, BALL_SPIN] * _SPIN
    _fill_body(row[:, 51:71], car, flip)
    vectors = np.empty((len(car), 4, 3), np.float32)
    vectors[:, 0] = ball[:, BALL_POS] - car[:, POS]
    vectors[:, 1] = ball[:, BALL_VEL] - car[:, VEL]
    vectors[:, 2] = _THEIR_GOAL - car[:, POS]
    vectors[:, 3] = _OUR_GOAL - car[:, POS]
    relative = _in_car_frame(car, vectors)
    row[:, 71:74] = relative[:, 0] * _FIELD
    row[:, 74:77] = relative[:, 1] * _FAST
    row[:, 77] = _length(vectors[:, 0]) * _FIELD
    row[:, 78:84] = relative[:, 2:].reshape(-1, 6) * _FIELD
    row[:, 84] = _length(car[:, VEL]) * _FAST
    row[:, 85] = _length(ball[:, BALL_VEL]) * _FASTEST


def _fill_other(row: Float32, car: Float32, other: Float32, ball: Float32, flip: Float32) -> None:
    _fill_body(row[..., 0:20], other, flip)
    vectors = np.stack([other[..., POS] - car[..., POS], other[..., VEL] - car[..., VEL]], axis=-2)
    relative = _in_car_frame(car, vectors)
    row[..., 20:23] = relative[..., 0, :] * _FIELD
    row[..., 23:26] = relative[..., 1, :] * _FAST
    to_ball = ball[..., BALL_POS] - other[..., POS]
    row[..., 26:29] = to_ball * _FIELD
    row[..., 29] = _length(vectors[..., 0, :]) * _FIELD
    row[..., 30] = _length(to_ball) * _FIELD


def _fill_body(row: Float32, car: Float32, flip: Float32) -> None:
    """Fill in the 20 numbers of each car."""
    row[..., 0:3] = car[..., POS] * _FIELD
    row[..., 3:6] = car[..., FORWARD]
    row[..., 6:9] = car[..., UP]
    row[..., 9:12] = car[..., VEL] * _FAST
    row[..., 12:15] = car[..., SPIN] * _SPIN
    row[..., 15] = car[..., BOOST] * np.float32(0.01)
    row[..., 16] = car[..., ON_GROUND]
    row[..., 17] = car[..., DEMOED]
    row[..., 18] = flip
    row[..., 19] = 1.0


def _in_car_frame(car: Float32, vectors: Float32) -> Float32:
    """Return vectors [..., k, 3] in the cars' own frames: forward, right, up."""
    frame = car[..., FRAME].reshape(*car.shape[:-1], 3, 3)
    result: Float32 = np.matmul(vectors, np.swapaxes(frame, -1, -2))
    return result


def _length(vector: Float32) -> Float32:
    result: Float32 = np.sqrt(np.square(vector).sum(axis=-1))
    return result
