"""The 90 lookup actions that Rocket League bots use, and the names of the 8 controls."""

from __future__ import annotations

import itertools

import numpy as np

from trainer.envs.vec_env import Float32

CONTROL_NAMES = ("throttle", "steer", "pitch", "yaw", "roll", "jump", "boost", "handbrake")


def lookup_table() -> Float32:
    """Return the actions [90, 8], in the order of rlgym's LookupTableAction."""
    rows: list[tuple[float, ...]] = []
    for throttle, steer, boost, handbrake in itertools.product((-1, 0, 1), (-1, 0, 1), (0, 1), (0, 1)):
        if not (boost and throttle != 1):
            rows.append((throttle or boost, steer, 0, steer, 0, 0, boost, handbrake))
    for pitch, yaw, roll, jump, boost in itertools.product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1), (0, 1), (0, 1)):
        sideways_jump = jump and yaw  # a side flip needs only roll
        on_ground_too = pitch == roll == jump == 0
        if not (sideways_jump or on_ground_too):
            handbrake = int(bool(jump and (pitch or yaw or roll)))
            rows.append((boost, yaw, pitch, yaw, roll, jump, boost, handbrake))
    return np.array(rows, np.float32)
