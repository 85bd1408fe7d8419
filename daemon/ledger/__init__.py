"""The ledger: rollouts, cycles and publications, in one SQLite file."""
