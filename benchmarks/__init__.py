"""Benchmarks, whose numbers are in docs/lab: `python -m benchmarks --help`."""
