"""The settings: defaults, ranges, and loading from a file, variables and flags."""
