"""What learns from the batches of a run: PPO, or TD3 on the experiences of the whole run."""
