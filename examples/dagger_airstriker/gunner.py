"""An Airstriker pilot that sweeps under the targets and fires all the time; it only looks for its own ship."""

import numpy as np

SHIP_ROWS = slice(178, 210)
LEFT_END, RIGHT_END = 105, 215  #: pixels


def fly(state):
    """Return the buttons to press: go on as before, and turn at the ends."""
    white = np.asarray(state["screen"])[SHIP_ROWS].min(axis=2) > 110
    ship = np.flatnonzero(white.sum(axis=0) > 3)
    x = float(np.median(ship)) if len(ship) else 160.0
    if x < LEFT_END:
        return ["B", "RIGHT"]
    if x > RIGHT_END:
        return ["B", "LEFT"]
    return ["B", "LEFT" if "LEFT" in state["held"] else "RIGHT"]
