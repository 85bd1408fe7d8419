"""The learners that the learn benchmark compares."""
