"""Rollout files: reading versions 1 and 2 into columns, and the cache of arrays."""
