"""How fast Hotlap learns from files, beside Stable-Baselines3."""
