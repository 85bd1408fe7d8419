"""The racing game: numpy only, so that the simulated engine starts fast."""
