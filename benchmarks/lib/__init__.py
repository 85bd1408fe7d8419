"""Shared parts of the benchmarks: child processes, measurement, tables, sample rollouts."""
