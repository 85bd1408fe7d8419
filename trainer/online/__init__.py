"""Online training: the same policy, loss and files as the cycles, on environments that run in this process."""
