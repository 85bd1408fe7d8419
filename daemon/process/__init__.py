"""Child processes of the daemon: start, log and end."""
