"""A simple car in the track's own coordinates: steering lag, drag, hills, a grip limit, a body that rolls and pitches.

The car is a bicycle that cannot slide: it turns by v tan(steer) / wheelbase until its tyres' grip is spent, and by what
the grip allows beyond (understeer). Along and across share one grip, so braking hard leaves little to turn with.
Living in (arc, offset, heading relative to the centreline) needs no search for the nearest point of the track:

    arc' = v cos(heading) / (1 - curvature offset)   offset' = v sin(heading)   heading' = yaw rate - curvature arc'

No rays, no rewards, no ends of episodes here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trainer.envs.racing.track import LENGTH, Place

Floats = NDArray[np.float64]

STEP_S = 0.1  #: s of driving a decision
GRAVITY = 9.81  #: m/s^2
POWER = 8.0  #: m/s^2 at full throttle
BRAKES = 8.0  #: m/s^2 at full brake
DRAG = 0.01  #: 1/m; with POWER, a top speed of 28 m/s
ROLLING = 0.1  #: m/s^2, while the car moves
GRIP = 9.0  #: m/s^2, along and across together
WHEELBASE = 2.6  #: m
STEER_MAX = 0.45  #: rad at the wheels
STEER_LAG_S = 0.15  #: s, first order
BODY_LAG_S = 0.25  #: s, first order, of roll and pitch
ROLL_GAIN = 0.010  #: rad a m/s^2 across
PITCH_GAIN = 0.006  #: rad a m/s^2 along
SPEED_SCALE = 28.0  #: m/s, the top speed
HALF_CAR = 1.0  #: m from the car's middle to what touches the wall


@dataclass(slots=True)
class Cars:
    """The state of n cars: every field is an [n] array of float64."""

    arc: Floats  #: m along the centreline, in [0, LENGTH)
    offset: Floats  #: m left of the centreline
    heading: Floats  #: rad left of the centreline's direction, in [-pi, pi)
    speed: Floats  #: m/s, never negative
    steer: Floats  #: rad at the wheels, positive to the left
    yaw_rate: Floats  #: rad/s, positive to the left
    pitch: Floats  #: rad of the body against the road, nose up
    roll: Floats  #: rad of the body against the road, right side down
    pitch_rate: Floats  #: rad/s
    roll_rate: Floats  #: rad/s
    along: Floats  #: m/s^2, acceleration forward
    across: Floats  #: m/s^2, acceleration to the left

    @classmethod
    def standing(cls, n: int) -> Cars:
        """n cars at rest at the start line."""
        return cls(*(np.zeros(n) for _ in fields(cls)))

    def columns(self) -> list[Floats]:
        """The arrays themselves, in the order of the fields."""
        return [getattr(self, name) for name in Cars.__slots__]

    def take(self, who: NDArray[np.intp]) -> Cars:
        """Copies of the cars with indices `who` [k]."""
        return Cars(*(column[who] for column in self.columns()))

    def place(self, who: NDArray[np.intp], *, arc: Floats, offset: Floats, heading: Floats, speed: Floats) -> None:
        """Put the cars with indices `who` [k] somewhere, in undisturbed straight driving."""
        for column in self.columns():
            column[who] = 0.0
        self.arc[who], self.offset[who], self.heading[who], self.speed[who] = arc, offset, heading, speed


def drive(c: Cars, road: Place, action: Floats) -> Floats:
    """Move every car by STEP_S and return the metres [n] it came along the centreline; negative when it drives back.

    `road` is the centreline at the cars; `action` [n, 3] is steer in [-1, 1] with 1 to the right (as engines have it),
    throttle and brake in [0, 1].
    """
    steer, throttle, brake = action.T
    c.steer += (-steer * STEER_MAX - c.steer) * (1.0 - np.exp(-STEP_S / STEER_LAG_S))

    cos_heading = np.cos(c.heading)
    along = np.clip(POWER * throttle - BRAKES * brake, -GRIP, GRIP)
    grip_left = np.sqrt(GRIP**2 - along**2)
    wanted = c.speed**2 * np.tan(c.steer) / WHEELBASE
    across = np.clip(wanted, -grip_left, grip_left)
    slip = np.abs(wanted - across)
    along = along - DRAG * c.speed**2 - ROLLING - GRAVITY * road.slope * cos_heading - 0.1 * np.minimum(slip, GRIP)
    speed = np.maximum(c.speed + along * STEP_S, 0.0)
    along = (speed - c.speed) / STEP_S
    mean_speed = 0.5 * (c.speed + speed)
    yaw_rate = across / np.maximum(c.speed, 1e-3)
    yaw_rate = np.where(slip > 0.0, yaw_rate, mean_speed * np.tan(c.steer) / WHEELBASE)

    stretch = 1.0 - road.curvature * c.offset
    turning = yaw_rate - road.curvature * mean_speed * cos_heading / stretch
    middle = c.heading + 0.5 * STEP_S * turning
    came: Floats = STEP_S * mean_speed * np.cos(middle) / stretch
    c.arc = (c.arc + came) % LENGTH
    c.offset = c.offset + STEP_S * mean_speed * np.sin(middle)
    c.heading = (c.heading + STEP_S * yaw_rate - road.curvature * came + np.pi) % (2.0 * np.pi) - np.pi
    c.speed, c.yaw_rate, c.along, c.across = speed, yaw_rate, along, across

    lean = 1.0 - np.exp(-STEP_S / BODY_LAG_S)
    d_pitch, d_roll = lean * (PITCH_GAIN * along - c.pitch), lean * (ROLL_GAIN * across - c.roll)
    c.pitch, c.roll = c.pitch + d_pitch, c.roll + d_roll
    c.pitch_rate, c.roll_rate = d_pitch / STEP_S, d_roll / STEP_S
    return came
