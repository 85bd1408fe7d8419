"""Faults that take longer than CI has: run these by hand, each prints what it counted."""
