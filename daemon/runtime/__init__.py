"""What all parts of the daemon use: clock, main loop, instance lock, commands, context."""
