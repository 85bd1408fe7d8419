"""PPO: the loss, one update, and who computes its gradient."""
