"""Where a rollout comes in: watch, scan, read, check, accept or reject."""
