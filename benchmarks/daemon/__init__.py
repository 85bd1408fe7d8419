"""What the service costs: cycles, reading, idling, a long history."""
