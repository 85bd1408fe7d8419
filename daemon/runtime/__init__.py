"""What every part of the service uses: clock, main loop, instance lock, commands, context."""
