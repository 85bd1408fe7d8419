"""Files and folders: atomic writes, locks, the project's paths."""
