"""How fast Hotlap learns from files, compared with Stable-Baselines3."""
