"""The service beside the engine: watch, count, run the trainer, publish, display. Never imports torch or trainer."""

IS_HOTLAP = True
"""PyPI's python-daemon replaces this file by its own; `schemas.program.entry` looks for this name in it."""
