"""Used by all parts of the daemon: clock, main loop, instance lock, commands, context."""
