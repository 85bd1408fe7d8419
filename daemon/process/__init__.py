"""Child processes of the daemon: their start, their log, and their end."""
