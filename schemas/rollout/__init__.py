"""Rollout files: versions 1 and 2, from bytes to columns, and the cache of arrays."""
