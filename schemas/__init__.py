"""The data formats of files and of messages between processes. Imports neither the daemon nor the trainer."""

__version__ = "0.1.0"  #: of Hotlap; pyproject.toml reads it from here
