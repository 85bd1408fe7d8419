"""The data formats that cross a process or a file. Imports neither the daemon nor the trainer."""

__version__ = "0.1.0"  #: of Hotlap; pyproject.toml reads it from here
