"""Settings: their defaults and ranges, and loading them from a file, variables and flags."""
