"""The expert of score 40."""

from gunner import fly


def run(state):
    """Fly on."""
    return fly(state)
