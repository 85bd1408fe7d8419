"""Self-play: stages, matches and the pool of past opponents."""
