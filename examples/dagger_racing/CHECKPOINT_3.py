"""The expert of checkpoint 3."""

from pursuit import drive


def run(state):
    """Return steer, throttle and brake."""
    return drive(state)
