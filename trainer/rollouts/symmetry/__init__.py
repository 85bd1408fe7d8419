"""Learning from the mirror images of experiences as well, and the check that the declared mirror is right."""
