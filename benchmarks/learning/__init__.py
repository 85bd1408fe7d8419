"""Learning from files, compared with Stable-Baselines3."""
