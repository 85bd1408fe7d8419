"""A pure-pursuit driver: aim at the centreline ahead, as fast as the bends that can be seen allow."""

import math

WHEELBASE_M = 2.6
GRIP = 0.75 * 9.0  #: m/s^2 across that it trusts the tyres with
BRAKING = 4.0  #: m/s^2 that it plans to slow down with
TOP_SPEED = 22.0  #: m/s


def drive(state):
    """Return steer in [-1, 1] (1 is right), throttle and brake in [0, 1] for the state of the car."""
    speed, ahead = state["speed"], state["ahead"]
    reach = min(len(ahead) - 1, round((3.0 + 0.45 * speed) / 2.0))
    x, y = float(ahead[reach][0]), float(ahead[reach][1])
    wheels = math.atan(2.0 * WHEELBASE_M * y / max(x * x + y * y, 1.0))
    steer = max(-1.0, min(1.0, -wheels / state["steer_max"]))
    wanted = min(_speed_here(i, float(c)) for i, c in enumerate(state["curvature"]))
    push = 0.5 * (wanted - speed)
    return [steer, max(0.0, min(1.0, push)), max(0.0, min(1.0, -push))]


def _speed_here(i, curvature):
    """How fast it may go now so that it can take the bend 2 i metres ahead."""
    bend = GRIP / max(abs(curvature), 1e-4)
    return min(TOP_SPEED, math.sqrt(bend + 2.0 * BRAKING * 2.0 * i))
