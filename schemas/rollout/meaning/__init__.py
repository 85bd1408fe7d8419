"""What the settings and the project make of a rollout file: order, bounds, choices, and the contract of most files."""
