"""A simple car in track coordinates: steering lag, drag, hills, limited grip, a body that rolls and pitches.

The car is a bicycle model that cannot slide: it turns by v tan(steer) / wheelbase up to the limit of its grip, and by
the limit above it (understeer). Acceleration along and across share one grip, so a car that brakes hard
turns little. The state is (arc, offset, heading relative to the centreline), so that the nearest point of the track
need not be searched:

    arc' = v cos(heading) / (1 - curvature offset)   offset' = v sin(heading)   heading' = yaw rate - curvature arc'
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trainer.envs.racing.track import LENGTH, Centreline, Float64

STEP_S = 0.1  #: s of driving for each action
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
ROLL_GAIN = 0.010  #: rad per m/s^2 across
PITCH_GAIN = 0.006  #: rad per m/s^2 along
SPEED_SCALE = 28.0  #: m/s, the top speed
HALF_CAR = 1.0  #: m from the car's middle to its side, which touches the wall


@dataclass(slots=True)
class Cars:
    """The state of n cars: every field is an [n] array of float64."""

    arc: Float64  #: m along the centreline, in [0, LENGTH)
    offset: Float64  #: m left of the centreline
    heading: Float64  #: rad left of the centreline's direction, in [-pi, pi)
    speed: Float64  #: m/s, never negative
    steer: Float64  #: rad at the wheels, positive to the left
    yaw_rate: Float64  #: rad/s, positive to the left
    pitch: Float64  #: rad of the body against the road, nose up
    roll: Float64  #: rad of the body against the road, right side down
    pitch_rate: Float64  #: rad/s
    roll_rate: Float64  #: rad/s
    along: Float64  #: m/s^2, acceleration forward
    across: Float64  #: m/s^2, acceleration to the left

    @classmethod
    def at_rest(cls, n: int) -> Cars:
        """Return n cars at rest at the start line."""
        return cls(*(np.zeros(n) for _ in fields(cls)))

    def columns(self) -> list[Float64]:
        """Return the arrays, not copies, in the order of the fields."""
        return [getattr(self, name) for name in Cars.__slots__]

    def select(self, indices: NDArray[np.intp]) -> Cars:
        """Return copies of the cars with these indices [k]."""
        return Cars(*(column[indices] for column in self.columns()))

    def place(
        self, indices: NDArray[np.intp], *, arc: Float64, offset: Float64, heading: Float64, speed: Float64
    ) -> None:
        """Put the cars with these indices [k] at positions [k]; they drive straight at a constant speed."""
        for column in self.columns():
            column[indices] = 0.0
        self.arc[indices], self.offset[indices] = arc, offset
        self.heading[indices], self.speed[indices] = heading, speed


def drive(c: Cars, centreline: Centreline, action: Float64) -> Float64:
    """Move every car by STEP_S and return the distance along the centreline, [n] in m; negative if it drives back.

    `centreline` is the centreline at the cars. `action` [n, 3] is steer in [-1, 1] with 1 to the right (as in engines),
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
    uphill = GRAVITY * centreline.slope * cos_heading
    along = along - DRAG * c.speed**2 - ROLLING - uphill - 0.1 * np.minimum(slip, GRIP)
    speed = np.maximum(c.speed + along * STEP_S, 0.0)
    along = (speed - c.speed) / STEP_S
    mean_speed = 0.5 * (c.speed + speed)
    yaw_rate = across / np.maximum(c.speed, 1e-3)
    yaw_rate = np.where(slip > 0.0, yaw_rate, mean_speed * np.tan(c.steer) / WHEELBASE)

    stretch = 1.0 - centreline.curvature * c.offset
    turning = yaw_rate - centreline.curvature * mean_speed * cos_heading / stretch
    middle = c.heading + 0.5 * STEP_S * turning
    distance: Float64 = STEP_S * mean_speed * np.cos(middle) / stretch
    c.arc = (c.arc + distance) % LENGTH
    c.offset = c.offset + STEP_S * mean_speed * np.sin(middle)
    c.heading = (c.heading + STEP_S * yaw_rate - centreline.curvature * distance + np.pi) % (2.0 * np.pi) - np.pi
    c.speed, c.yaw_rate, c.along, c.across = speed, yaw_rate, along, across

    lean = 1.0 - np.exp(-STEP_S / BODY_LAG_S)
    d_pitch, d_roll = lean * (PITCH_GAIN * along - c.pitch), lean * (ROLL_GAIN * across - c.roll)
    c.pitch, c.roll = c.pitch + d_pitch, c.roll + d_roll
    c.pitch_rate, c.roll_rate = d_pitch / STEP_S, d_roll / STEP_S
    return distance
