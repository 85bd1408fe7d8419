"""An expert for Airstriker: it sweeps under the targets and always fires; it only reads its own position."""

import numpy as np

SHIP_ROWS = slice(178, 210)
LEFT_END, RIGHT_END = 105, 215  #: pixels


def fly(state):
    """Return the buttons to press: continue in the same direction, and turn at the ends."""
    white = np.asarray(state["screen"])[SHIP_ROWS].min(axis=2) > 110
    ship = np.flatnonzero(white.sum(axis=0) > 3)
    x = float(np.median(ship)) if len(ship) else 160.0
    if x < LEFT_END:
        return ["B", "RIGHT"]
    if x > RIGHT_END:
        return ["B", "LEFT"]
    return ["B", "LEFT" if "LEFT" in state["held"] else "RIGHT"]
