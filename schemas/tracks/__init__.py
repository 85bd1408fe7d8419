"""Which row of a rollout belongs to which agent, if the file does not say so: detect it, and recover the tracks."""
