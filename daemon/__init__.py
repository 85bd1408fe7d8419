"""The daemon: detects rollouts, runs the trainer, publishes models, shows its state. Never imports torch or trainer."""

IS_HOTLAP = True
"""Missing if PyPI's python-daemon has overwritten this file; `schemas.program.entry` checks that it is here."""
