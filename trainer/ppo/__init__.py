"""The PPO update: the loss, and the updaters that compute and apply its gradient."""
