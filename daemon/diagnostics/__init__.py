"""What is wrong here: doctor, invariant checks, status and history reports."""
