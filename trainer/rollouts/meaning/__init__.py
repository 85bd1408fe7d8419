"""What rewards and the ends of episodes mean: whether rewards carry information, and time limits in version 1."""
