"""After a failed attempt: which rollouts or which parent caused it, and another attempt without them."""
