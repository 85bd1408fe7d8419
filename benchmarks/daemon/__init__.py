"""Benchmarks of the daemon: cycles, reading, idling, many old rollouts."""
