"""The shapes that cross a process or a file. Imports neither the daemon nor the trainer."""
