"""Online training: throughput and scores."""
