"""What the benchmarks share: child processes, measurement, tables, sample rollouts."""
