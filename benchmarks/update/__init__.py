"""One PPO update, side by side with other implementations."""
