"""Shared parts of the trainer: seeds, axis letters, device, threads, reporting, exit codes."""
