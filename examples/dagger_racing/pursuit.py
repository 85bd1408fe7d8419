"""A pure-pursuit expert for the racing game: it steers toward the centreline ahead, and limits the speed in bends."""

import math

WHEELBASE_M = 2.6
GRIP = 0.75 * 9.0  #: m/s^2, the lateral acceleration that it uses at most
BRAKING = 4.0  #: m/s^2, the deceleration that it plans with
TOP_SPEED = 22.0  #: m/s


def drive(state):
    """Return steer in [-1, 1] (1 is right), throttle and brake in [0, 1] for the state of the car."""
    speed, ahead = state["speed"], state["ahead"]
    reach = min(len(ahead) - 1, round((3.0 + 0.45 * speed) / 2.0))
    x, y = float(ahead[reach][0]), float(ahead[reach][1])
    wheels = math.atan(2.0 * WHEELBASE_M * y / max(x * x + y * y, 1.0))
    steer = max(-1.0, min(1.0, -wheels / state["steer_max"]))
    target_speed = min(_max_speed(i, float(c)) for i, c in enumerate(state["curvature"]))
    pedal = 0.5 * (target_speed - speed)
    return [steer, max(0.0, min(1.0, pedal)), max(0.0, min(1.0, -pedal))]


def _max_speed(i, curvature):
    """Return the highest speed now from which the car can brake for the bend 2 i metres ahead."""
    bend = GRIP / max(abs(curvature), 1e-4)
    return min(TOP_SPEED, math.sqrt(bend + 2.0 * BRAKING * 2.0 * i))
