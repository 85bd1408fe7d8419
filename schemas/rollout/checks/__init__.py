"""Checks of rollouts that were stored as arrays."""
