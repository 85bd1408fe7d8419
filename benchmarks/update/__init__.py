"""One PPO update, compared with other implementations."""
