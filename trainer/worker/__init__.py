"""The trainer process that the daemon runs."""
