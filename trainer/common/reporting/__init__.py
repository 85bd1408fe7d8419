"""What a training reports, and to whom: events, console lines, video, Weights & Biases."""
