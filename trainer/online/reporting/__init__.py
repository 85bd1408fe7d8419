"""The output of an online run: console, metric loggers, video, system load."""
