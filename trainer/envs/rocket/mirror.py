"""Rocket League in a mirror: left and right of the field are swapped (x becomes -x)."""

from __future__ import annotations

import numpy as np

from schemas.settings.mirror import MirrorSettings
from trainer.envs.rocket.actions import lookup_table

_OTHER_CARS = (86, 117, 148)
_PADS = (
    (1, 2), (3, 4), (5, 6), (8, 9), (10, 11), (12, 14), (15, 18),
    (16, 17), (19, 21), (22, 23), (24, 25), (27, 28), (29, 30), (31, 32),
)  # fmt: skip
"""Boost pads at the same distance from the middle, to the left and to the right; those in the middle stay."""
_SPIN = (1, 2)
"""A spin is a pseudovector: in the mirror x -> -x, its y and z change sign."""
_RIGHT = 1
"""In a vector in a car's own frame (forward, right, up), right changes sign."""
_TURNS = ("steer", "yaw", "roll")


def rocket_mirror(*, discrete: bool) -> MirrorSettings:
    """Return the mirror for the 180 observations, and for the lookup table or the 8 controls."""
    signs = [0, 3, *(6 + i for i in _SPIN)]  # the ball's place, velocity, spin
    signs += [43 + 1, 43 + 3, 43 + 4]  # the last action's steer, yaw, roll
    signs += _body(51)
    signs += [base + _RIGHT for base in (71, 74, 78, 81)]  # the ball and the goals in the car's own frame
    for car in _OTHER_CARS:
        signs += [*_body(car), car + 20 + _RIGHT, car + 23 + _RIGHT, car + 26]
    observation_pairs = tuple((9 + a, 9 + b) for a, b in _PADS)
    if discrete:
        return MirrorSettings(
            observation_pairs=observation_pairs, observation_signs=tuple(signs), choice_pairs=_choice_pairs()
        )
    return MirrorSettings(observation_pairs=observation_pairs, observation_signs=tuple(signs), action_signs=_TURNS)


def _body(start: int) -> list[int]:
    """Return the numbers of a car that change sign: x of place, forward, up and velocity; y and z of the spin."""
    return [start + 3 * vector for vector in range(4)] + [start + 12 + i for i in _SPIN]


def _choice_pairs() -> tuple[tuple[int, int], ...]:
    """Return the pairs of actions in the lookup table that differ in the side only."""
    table = lookup_table()
    images = table.copy()
    images[:, [1, 3, 4]] *= -1.0
    rows = {tuple(row): index for index, row in enumerate(table.tolist())}
    found = [rows[tuple(np.where(row == 0.0, 0.0, row).tolist())] for row in images]
    return tuple((index, image) for index, image in enumerate(found) if index < image)
