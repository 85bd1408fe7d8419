"""What must never be forgotten: rollouts, cycles and their states, in one SQLite file."""
