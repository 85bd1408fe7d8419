"""Self-play: stages, matches and the opponent pool."""
