"""The expert of score 100."""

from gunner import fly


def run(state):
    """Fly on."""
    return fly(state)
