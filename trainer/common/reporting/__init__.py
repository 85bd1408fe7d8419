"""Reporting of a training: events, console lines, video, Weights & Biases."""
