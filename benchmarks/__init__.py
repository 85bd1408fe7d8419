"""Measurements that take minutes and whose numbers stand in the docs; `python -m benchmarks --help`."""
