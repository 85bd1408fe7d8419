"""The process that the daemon runs: jobs in, events out."""
