"""The expert of checkpoint 1."""

from pursuit import drive


def run(state):
    """Return steer, throttle and brake."""
    return drive(state)
